"""What the pixel's address says of a page view, and the pixel itself."""

import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counters import pixel
from counters.hits import PathInvalid, PathTooLong
from counters.pixel import PageView, ParametersInvalid, page_view

VISIBLE = string.ascii_letters + string.digits + string.punctuation


def test_the_pixel_is_a_gif_of_43_bytes_with_one_transparent_pixel():
    assert len(pixel.GIF) == 43
    header, screen, extension = pixel.GIF[:6], pixel.GIF[6:13], pixel.GIF[19:27]
    assert (header, screen[:4]) == (b"GIF89a", b"\1\0\1\0")
    assert extension[:2] == b"\x21\xf9" and extension[3] & 1, "no color is transparent"
    assert pixel.GIF[-1:] == b";"


@pytest.mark.parametrize(
    ("query", "path"),
    [
        (b"path=/blog/post/", "/blog/post/"),
        (b"path=%2Fblog%2Fpost%2F", "/blog/post/"),
        (b"path=/a%2520b", "/a%20b"),
        (b"path=/a%252Fb", "/a%2Fb"),
        (b"path=/a+b", "/a+b"),
        (b"path=/a=b", "/a=b"),
        (b"path=/%26", "/&"),
        (b"&path=/a&", "/a"),
        (b"p%61th=/a", "/a"),
        (b"path=/" + b"x" * 2047, "/" + "x" * 2047),
    ],
)
def test_the_path_is_decoded_once(query, path):
    assert page_view(query) == PageView(path, b"")


@given(st.text(VISIBLE).map("/".__add__), st.binary())
def test_what_is_encoded_once_comes_back_byte_for_byte(path, referrer):
    query = f"path={quote(path, safe='')}&referrer={quote(referrer, safe='')}"
    assert page_view(query.encode()) == PageView(path, referrer)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (b"", {"path"}),
        (b"path", {"path"}),
        (b"path=", {"path"}),
        (b"path=&path=", {"path"}),
        (b"path=/a&path=/a", {"path"}),
        (b"path=/a&referrer=&referrer=", {"referrer"}),
        (b"path=/a&url=/b&\xff=1", {"url", "�"}),
        (b"Path=/a", {"path", "Path"}),
        (b"/a", {"path", "/a"}),
    ],
)
def test_parameters_that_tell_of_no_page_view_are_refused_by_name(query, names):
    with pytest.raises(ParametersInvalid) as refusal:
        page_view(query)
    assert refusal.value.status == 400
    assert refusal.value.problem.keys() == names
    assert all(isinstance(fault, str) for [fault] in refusal.value.problem.values())


@pytest.mark.parametrize("path", [b"a", b"/a%20b", b"/%00", b"/%0A", b"/%FF", b"/\xff", b"%09/"])
def test_a_path_that_no_request_target_can_be_is_refused(path):
    with pytest.raises(PathInvalid):
        page_view(b"path=" + path)


def test_a_path_too_long_is_refused():
    with pytest.raises(PathTooLong):
        page_view(b"path=/" + b"x" * 2048)


def test_the_page_s_referrer_takes_the_place_of_the_pixel_s():
    sent = [(b"referer", b"https://page.example/"), (b"user-agent", b"x"), (b"referer", b"https://again.example/")]
    view = PageView("/a", b"https://search.example/")
    assert sorted(view.headers(sent)) == [(b"referer", b"https://search.example/"), (b"user-agent", b"x")]
