"""Paths and values as people read them: decoded where that is safe, and each told from any other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counters.dashboard.shown import is_addressed, path_shown, paths_shown, value_shown

PIECES = ["%", "%2", "%41", "b", "%62", "(", "%28", "<", "%3C", "%3c", "%C3%A9", "%c3%a9", "%C3", "%A9", "%E2%80%AE"]
SPACES = ["%20", "%20%20", "/", "%2F", "%25", "%3F", "%23", "%5C", "\\", "%EF%B8%8F", "%F0%9F%98%80", "%ED%A0%80"]
PATHS = st.lists(st.sampled_from(PIECES + SPACES) | st.characters(min_codepoint=0x21, max_codepoint=0x7E)).map(
    lambda parts: "/" + "".join(parts)
)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/api/caf%C3%A9/", "/api/café/"),
        ("/api/caf%c3%a9/", "/api/café/"),
        ("/api/%3Cscript%3Ealert(1)%3C/script%3E/", "/api/<script>alert(1)</script>/"),
        ("/api/%3Cscript%3Ealert%281%29%3C/script%3E/", "/api/<script>alert(1)</script>/"),
        ("/api/%D0%BC%D0%B8%D1%80", "/api/мир"),
        ("/api/%F0%9F%98%80", "/api/😀"),
        ("/api/a%20b", "/api/a b"),
        ("/as/it/is?a=1#b", "/as/it/is?a=1#b"),
    ],
)
def test_what_reads_as_text_is_decoded(path, shown):
    assert path_shown(path) == shown


@pytest.mark.parametrize(
    "kept",
    [
        "%2F", "%2f", "%25", "%3F", "%23",  # would be taken for something else
        "%2541",
        "%00", "%0A", "%1B", "%7F", "%C2%85", "%C2%A0", "%C2%AD",  # controls, a space that is none, a soft hyphen
        "%E2%80%AE", "%E2%81%A6", "%E2%80%8F", "%E2%80%8B", "%E2%80%8D", "%EF%BB%BF",  # direction, nothing at all
        "%CD%8F", "%E3%85%A4", "%EF%B8%8F", "%F3%A0%84%80", "%E2%A0%80",  # looks like nothing
        "%FF", "%C3", "%C3x%A9", "%C0%AF", "%ED%A0%80", "%F4%90%80%80", "%F0%9F%98",  # no UTF-8
        "%", "%4", "%zz", "%%",  # no encoding
        "%41", "%62", "%7E", "%2E%2E", "%30",  # nobody has to encode these
        "a%20", "a%20%20b", "%20%20%20",  # HTML would show fewer
    ],
)  # fmt: skip
def test_what_cannot_be_seen_or_would_be_taken_for_something_else_stays_encoded(kept):
    assert path_shown(f"/{kept}") == f"/{kept}"


@pytest.mark.parametrize(
    ("one", "other"),
    [("/a%62", "/ab"), ("/a%2Fb", "/a/b"), ("/a%2541", "/a%41"), ("/a%3Fb", "/a?b"), ("/a%20", "/a"), ("/%2E", "/.")],
)
def test_paths_of_different_meaning_look_different_wherever_they_stand(one, other):
    assert path_shown(one) != path_shown(other)


def test_paths_that_would_look_alike_stand_in_a_list_as_they_were_sent():
    paths = ["/%28", "/(", "/%C3%A9", "/%c3%a9", "/%3C"]
    assert paths_shown(paths) == ["/%28", "/(", "/%C3%A9", "/%c3%a9", "/<"]


@given(PATHS)
def test_a_path_is_shown_in_visible_characters_and_single_spaces(path):
    shown = path_shown(path)
    assert shown.isprintable()
    assert shown == " ".join(shown.split()) == path_shown(shown)


@given(st.text())
def test_a_text_that_is_encoded_reads_as_itself_but_for_what_is_not_shown(text):
    encoded = "/" + "".join(f"%{byte:02X}" for byte in text.encode(errors="replace"))
    assert path_shown(encoded).isprintable()
    assert path_shown(path_shown(encoded)) == path_shown(encoded)


@given(st.lists(PATHS, unique=True))
def test_no_two_paths_of_a_list_look_the_same(paths):
    assert len(set(paths_shown(paths))) == len(paths)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("Firefox", "Firefox"),
        ("", ""),
        ("=1+1", "=1+1"),
        ("<b>", "<b>"),
        ("DOMAIN\\user", "DOMAIN\\user"),
        ("a\u202eb", r"a\u202eb"),
        (r"a\u202eb", r"a\\u202eb"),
        ("a\u00adb", r"a\xadb"),
        ("a\u3164", r"a\u3164"),
        ("\U000e0041", r"\U000e0041"),
        ("\\\u202e", r"\\\u202e"),
    ],
)
def test_of_a_value_what_cannot_be_seen_is_written_out(value, shown):
    assert value_shown(value) == shown


VALUES = st.text(st.sampled_from("\\xuU02ea\u202e\u00ad\U000e0041") | st.characters(exclude_categories=["Cs"]))


@given(VALUES, VALUES)
def test_no_two_values_look_the_same(one, other):
    assert value_shown(one).isprintable()
    assert (value_shown(one) == value_shown(other)) == (one == other)


@pytest.mark.parametrize("path", ["/", "/api/a.b/..c/", "//", "/a%2Fb", "/%2E%2Ea", "/a'(b)*", "/...", "/a%20"])
def test_most_paths_are_what_a_request_for_them_asks_for(path):
    assert is_addressed(path)


@pytest.mark.parametrize(
    "path",
    ["/a?b", "/a#b", "/a/../b", "/..", "/a/./", "/%2e%2E/", "/.%2e", "/a\\b", "/{a}", "/[1-9]", "/<", "/%", "/a|b"],
)
def test_what_a_browser_or_curl_would_change_is_no_address(path):
    assert not is_addressed(path)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("   ", r"\x20\x20\x20"),
        (" a b ", r"\x20a b\x20"),
        ("a  b", r"a\x20\x20b"),
        ("\u0301a", r"\u0301a"),
        ("a" + "\u0301" * 5, "a" + "\u0301" * 3 + r"\u0301\u0301"),
        ("मी", "मी"),
    ],
)
def test_spaces_that_are_not_seen_and_marks_upon_marks_are_written(value, shown):
    assert value_shown(value) == shown


@given(st.text(" \\x20\u0301a", max_size=8), st.text(" \\x20\u0301a", max_size=8))
def test_values_of_spaces_and_marks_look_the_same_only_if_they_are(one, other):
    assert (value_shown(one) == value_shown(other)) == (one == other)
