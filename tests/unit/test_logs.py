"""The log's lines: their two forms, the request's id in them, and how many there are at most."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from counters import requestid
from counters.sentences import sentence_of
from hitcounter.logs import FORMATTERS, MOST_A_SECOND, Bounded, speak_alike, told


@pytest.fixture
def logged() -> Callable[[str], tuple[logging.Logger, io.StringIO]]:
    """A logger of the test's own, whose lines have a form, and what it has written."""
    logger = logging.Logger("tests.logs")

    def make(form: str) -> tuple[logging.Logger, io.StringIO]:
        written = io.StringIO()
        logger.addHandler(logging.StreamHandler(written))
        speak_alike(logger, form)
        return logger, written

    return make


@pytest.fixture
def answering() -> Iterator[str]:
    """The id of a request that is being answered."""
    token = requestid.current.set("r-4711")
    yield "r-4711"
    requestid.current.reset(token)


def test_a_line_for_machines_is_an_object_with_time_level_logger_and_message(logged):
    logger, written = logged("json")
    logger.error("%d of %s", 3, 'a "b"\n{"c')
    [line] = written.getvalue().splitlines()
    told = json.loads(line)
    assert abs((datetime.now(UTC) - datetime.fromisoformat(told.pop("time"))).total_seconds()) < 60
    assert told == {"level": "ERROR", "logger": "tests.logs", "message": '3 of a "b"\n{"c'}


def test_time_is_in_utc(logged):
    logger, written = logged("json")
    logger.error("x")
    assert json.loads(written.getvalue())["time"].endswith("+00:00")


def test_a_line_for_people_is_as_it_was(logged):
    logger, written = logged("text")
    logger.error("What is wrong: %s", "this")
    assert written.getvalue().endswith(" ERROR tests.logs: What is wrong: this\n")


@pytest.mark.parametrize("form", FORMATTERS)
def test_a_line_has_the_id_of_the_request_that_is_being_answered(logged, answering, form):
    logger, written = logged(form)
    logger.error("x")
    line = written.getvalue()
    assert (json.loads(line)["request_id"] == answering) if form == "json" else line.endswith(f": x [{answering}]\n")


@pytest.mark.parametrize("form", FORMATTERS)
def test_what_code_hands_over_beside_the_message_is_not_written(logged, form):
    logger, written = logged(form)
    logger.error("x", extra={"request": "GET /?query=secret", "status_code": 500})
    assert "secret" not in written.getvalue()
    assert "500" not in written.getvalue()


@pytest.mark.parametrize("form", FORMATTERS)
def test_a_traceback_is_there_without_the_rows_that_a_database_quotes(logged, form):
    logger, written = logged(form)
    quoted = "secret"
    try:
        raise ValueError(f"new row violates a check\nDETAIL:  Row has {quoted}.\nCONTEXT:  COPY x: {quoted}")
    except ValueError:
        logger.exception("x")
    text = json.loads(written.getvalue())["exception"] if form == "json" else written.getvalue()
    assert text.splitlines()[-1] == "ValueError: new row violates a check"
    assert "test_logs.py" in text
    assert "secret" not in written.getvalue()
    assert len(written.getvalue().splitlines()) == 1 or form == "text"


def record(at: float, message: object = "%s fails", level: int = logging.ERROR, name: str = "a") -> logging.LogRecord:
    made = logging.LogRecord(name, level, "", 0, message, ("it",), None)
    made.created = at
    return made


def test_of_errors_that_are_alike_few_are_written_a_second_and_the_rest_is_told():
    bounded = Bounded()
    assert [bounded.filter(record(1 + n / 1000)) for n in range(100)] == [True] * MOST_A_SECOND + [False] * (
        100 - MOST_A_SECOND
    )
    after = record(2.5)
    assert bounded.filter(after)
    assert told(after) == f"it fails (and {100 - MOST_A_SECOND} like it before, which are left out)"
    assert after.getMessage() == "it fails"  # for whoever else hears of it
    following = record(2.6)
    assert bounded.filter(following)
    assert following.getMessage() == "it fails"


def test_errors_that_are_not_alike_hide_nothing_of_each_other():
    bounded = Bounded()
    for n in range(100):
        bounded.filter(record(1 + n / 1000))
    assert bounded.filter(record(1.5, "another: %s"))
    assert bounded.filter(record(1.5, name="another"))


def test_a_message_that_is_no_text_is_bounded_too():
    assert Bounded().filter(record(1, {"a": "dict"}))


def test_what_was_done_is_always_written():
    bounded = Bounded()
    assert all(bounded.filter(record(1, level=logging.INFO)) for _ in range(100))


@pytest.mark.parametrize("given", ["a", "A-b_c.9", "x" * 64, "4b5c0ec9-1111-4222-8333-444455556666"])
def test_an_id_that_a_proxy_gives_is_taken(given):
    assert requestid.of(given) == given


@pytest.mark.parametrize("given", [None, "", "x" * 65, "a b", "a\nb", "a\n", "é", '"', "a/b", "${x}"])
def test_another_is_drawn_where_none_is_given_or_it_may_not_stand_in_a_log(given):
    drawn = {requestid.of(given) for _ in range(3)}
    assert len(drawn) == 3 and given not in drawn
    assert all(requestid.of(id) == id for id in drawn)


def test_of_a_database_error_the_first_sentence_is_told():
    class Diagnostics:
        message_primary = 'new row for relation "a"\nviolates a check'

    class Raised(Exception):
        diag = Diagnostics()

    error = Raised("… DETAIL: Failing row contains (secret)")
    assert sentence_of(error) == 'new row for relation "a" violates a check'
    outer = ValueError("… DETAIL: Failing row contains (secret)")
    outer.__cause__ = error
    assert sentence_of(outer) == 'new row for relation "a" violates a check'


def test_of_other_errors_all_is_told_in_one_line():
    assert sentence_of(ValueError("a\n  b")) == "a b"
