"""What a hit is: which paths are counted, under which key, and why one is refused."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counters.hits import MAX_PATH_BYTES, PathInvalid, PathTooLong, check_path, counter_id, counter_ids, hour_of

VISIBLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E)


@given(st.text(VISIBLE, max_size=MAX_PATH_BYTES - 1))
def test_a_path_of_visible_ascii_is_kept_as_it_is(tail):
    assert check_path("/" + tail) == "/" + tail


@given(st.text(st.characters(exclude_characters=[chr(code) for code in range(0x21, 0x7F)]), min_size=1, max_size=50))
def test_a_path_with_anything_else_is_refused(junk):
    with pytest.raises(PathInvalid):
        check_path("/api/" + junk)


def test_the_longest_path_has_2048_bytes():
    assert check_path("/" + "x" * 2047)
    with pytest.raises(PathTooLong, match="2,048 bytes"):
        check_path("/" + "x" * 2048)


def test_the_key_is_blake2b_of_the_path_in_16_bytes():
    # echo -n /api/hello/world/ | b2sum --length 128
    assert counter_id("/api/hello/world/").hex == "7fbc696a74ff8da650bdc01a15f741ee"


@given(st.lists(st.text(VISIBLE, min_size=1, max_size=30), unique=True))
def test_keys_in_hexadecimal_sort_as_the_uuids_do(paths):
    assert [counter_id(path).hex for path in paths] == counter_ids(paths)
    assert sorted(counter_ids(paths)) == [key.hex for key in sorted(counter_id(path) for path in paths)]


def test_an_hour_begins_in_utc_whatever_the_zone():
    nepal = timezone(timedelta(hours=5, minutes=45))
    assert hour_of(datetime(2026, 3, 1, 6, 0, 1, tzinfo=nepal)) == datetime(2026, 3, 1, 0, 0, tzinfo=UTC)
