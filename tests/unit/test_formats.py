"""The forms of a list, and how it is streamed."""

import csv
import io
import json
from collections.abc import Iterator

import pytest
from django.test import AsyncRequestFactory, RequestFactory

from counters.api.formats import ROWS_AT_ONCE, CSVList, JSONList, NDJSONList, streamed


def renderer(kind):
    made = kind()
    made.columns = ("path", "count")
    return made


def rows(number: int) -> list[tuple[str, int]]:
    return [(f"/api/{n}", n) for n in range(number)]


@pytest.mark.parametrize("number", [0, 1, ROWS_AT_ONCE - 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, 2 * ROWS_AT_ONCE])
def test_the_pieces_of_a_json_list_are_one_list(number):
    answer = streamed(RequestFactory().get("/"), renderer(JSONList), rows(number))
    assert json.loads(answer.getvalue()) == [{"path": path, "count": n} for path, n in rows(number)]


@pytest.mark.parametrize(("kind", "lines"), [(CSVList, 5001), (NDJSONList, 5000)])
def test_a_list_of_lines_has_a_line_per_row(kind, lines):
    assert len(streamed(RequestFactory().get("/"), renderer(kind), rows(5000)).getvalue().splitlines()) == lines


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0"])
def test_a_cell_like_a_formula_is_no_formula_in_csv(text):
    answer = streamed(RequestFactory().get("/"), renderer(CSVList), [(text, -1)])
    assert list(csv.reader(io.StringIO(answer.getvalue().decode(), newline="")))[1:] == [[f"'{text}", "-1"]]


@pytest.mark.parametrize("text", ["", "/api/=1", "a=1", "'=1", " =1", "1-1"])
def test_other_cells_are_as_they_are_in_csv(text):
    answer = streamed(RequestFactory().get("/"), renderer(CSVList), [(text, 1)])
    assert list(csv.reader(io.StringIO(answer.getvalue().decode(), newline="")))[1:] == [[text, "1"]]


async def test_under_asgi_pieces_are_made_as_they_are_sent():
    made = 0

    def counting() -> Iterator[tuple[str, int]]:
        nonlocal made
        for row in rows(5 * ROWS_AT_ONCE):
            made += 1
            yield row

    answer = streamed(AsyncRequestFactory().get("/"), renderer(JSONList), counting())
    assert answer.is_async
    pieces = aiter(answer)
    assert (await anext(pieces)).startswith(b"[")
    assert made == ROWS_AT_ONCE
    await anext(pieces)
    assert made == 2 * ROWS_AT_ONCE
    await pieces.aclose()
