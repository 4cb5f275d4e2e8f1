"""POST /hits/: hits that others have seen are counted in one transaction, and once per Idempotency-Key."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from django.db import OperationalError, connection
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors

from counters import batches, bulk, hits
from counters.api.errors import unavailable
from counters.books import Verdict, verify
from counters.conf import MOST_BODY_BYTES
from counters.dimensions import Dimensions, Origin
from counters.maintenance import KEYS_KEPT, maintain
from counters.models import Counter, DailyHits, Hit, HourlyHits, IdempotencyKey, LateDay
from counters.reports import items_of_list, reported
from hitcounter.asgi import conninfo
from tests.integration.test_parity import ON_THE_DATABASE, ORIGINS, PATHS, START, rows, salted

pytestmark = pytest.mark.usefixtures("afresh")

NDJSON = "application/x-ndjson"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ONE_HIT = [{"path": "/a"}]
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)


def send(items: Any, key: str | None = None, **headers: str) -> Any:
    return send_body(json.dumps(items).encode(), key, **headers)


def send_body(body: bytes, key: str | None = None, content_type: str = "application/json", **headers: str) -> Any:
    if key is not None:
        headers["Idempotency-Key"] = key
    client = Client(raise_request_exception=False)
    return client.generic("POST", "/hits/", body, content_type, headers=headers, CONTENT_TYPE=content_type)


def told(answer: Any) -> tuple[int, Any]:
    return answer.status_code, answer.json()


def counts() -> dict[str, int]:
    return dict(Counter.objects.values_list("path", "hits"))


def assert_the_books_balance() -> None:
    differences: list[Any] = []
    assert verify(differences.append) == Verdict(Counter.objects.count(), 0, 0), differences


# What is counted

REPORTED = st.lists(
    st.tuples(st.integers(0, 2000), PATHS, ORIGINS, st.integers(1, 3)).filter(lambda hit: not hit[2].dimensions.bot),
    min_size=1,
    max_size=12,
)


def item(at: datetime, path: str, origin: Origin, n: int) -> dict[str, Any]:
    """What reports such a hit."""
    known = origin.dimensions
    return {
        "path": path,
        "at": at.isoformat(),
        "n": n,
        "method": known.method,
        "status": known.status,
        "consumer": known.consumer,
        "referrer": known.referrer and f"https://{known.referrer}/",
        "route": known.route,
        "visitor": origin.identity and quote(origin.identity),
    }


def as_reported(origin: Origin) -> Origin:
    known = origin.dimensions
    url = known.referrer and f"https://{known.referrer}/"
    return Origin(known._replace(referrer_url=url), origin.identity and b"\x00" + quote(origin.identity).encode())


@ON_THE_DATABASE
@given(reported=REPORTED)
def test_reported_hits_leave_the_rows_that_the_same_hits_counted_one_by_one_leave(
    afresh: Callable[[], None], reported: list[tuple[int, str, Origin, int]]
):
    made = [(START + timedelta(minutes=minutes), path, origin, n) for minutes, path, origin, n in reported]
    afresh()
    salted()
    assert told(send([item(*hit) for hit in made])) == (200, {"counted": sum(hit[3] for hit in made)})
    assert_the_books_balance()
    sent = rows()
    afresh()
    salted()
    for at, path, origin, n in made:
        Counter.objects.increment(path, n, at=at, origin=as_reported(origin))
    assert rows() == sent


def test_ndjson_is_counted_as_a_list_is():
    answer = send_body(b'{"path": "/a", "n": 2}\n\n{"path": "/b"}\n', content_type=f"{NDJSON}; charset=utf-8")
    assert told(answer) == (200, {"counted": 3})
    assert counts() == {"/a": 2, "/b": 1}


def test_hits_without_a_time_have_that_of_the_request():
    before = hits.now()
    send([{"path": "/a"}, {"path": "/b"}])
    [at] = set(Hit.objects.values_list("at", flat=True))
    assert before <= at <= hits.now()


def test_visitors_are_told_apart_within_a_day():
    at = MIDNIGHT.isoformat()
    send([{"path": "/a", "visitor": visitor, "at": at} for visitor in ("ann", "ben", "ann", None)])
    visitors = Hit.objects.values_list("visitor", flat=True)
    assert len(visitors) == 4 and len(set(visitors)) == 3 and None in visitors


def test_a_batch_of_one_bad_hit_and_many_good_ones_is_not_counted():
    bad = {"path": "/a", "status": 1}
    assert told(send([*ONE_HIT * 17, bad])) == (400, {"detail": "Hit 17: status must be from 100 to 599.", "index": 17})
    assert (counts(), Hit.objects.count(), HourlyHits.objects.count()) == ({}, 0, 0)


def test_a_counter_that_can_hold_no_more_refuses_the_batch():
    send([{"path": "/full"}])
    Counter.objects.update(hits=2**63 - 1)
    answer = send([{"path": "/a"}, {"path": "/full"}], "k")
    assert told(answer) == (400, {"detail": "Hit 1: The database refused this hit's values.", "index": 1})
    assert counts() == {"/full": 2**63 - 1} and not IdempotencyKey.objects.exists()


@pytest.mark.parametrize("index", [0, 1, 7, 99])
def test_a_batch_that_the_database_refuses_is_told_the_first_hit_of_it_that_is_not_taken(index):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE counters_counter ADD CONSTRAINT no_poison CHECK (path <> '/poison')")
    paths = ["/poison" if number >= index and not (number - index) % 20 else f"/a{number}" for number in range(100)]
    try:
        answer = send([{"path": path} for path in paths], "k")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE counters_counter DROP CONSTRAINT no_poison")
    assert told(answer) == (400, {"detail": f"Hit {index}: The database refused this hit's values.", "index": index})
    assert (counts(), Hit.objects.count()) == ({}, 0) and not IdempotencyKey.objects.exists()


def test_hits_of_the_future_and_of_ancient_days_are_counted_on_their_days():
    ahead = hits.now() + HOUR - timedelta(minutes=1)
    send([{"path": "/a", "at": at} for at in ("1970-01-01T00:00:00Z", "2003-04-05T06:07:08+09:00", ahead.isoformat())])
    days = sorted(Hit.objects.values_list("at__date", flat=True))
    assert [str(day) for day in days] == ["1970-01-01", "2003-04-04", str(ahead.date())]
    assert_the_books_balance()


def test_hits_of_too_many_days_are_refused():
    a_day_each = [{"path": "/a", "at": (MIDNIGHT - n * DAY).isoformat()} for n in range(bulk.MOST_DAYS + 1)]
    assert told(send(a_day_each)) == (400, {"detail": "The hits of one request lie on at most 366 UTC days."})
    assert counts() == {}


def test_a_day_that_was_rolled_up_gets_its_note_and_is_rolled_up_again():
    yesterday = MIDNIGHT - DAY
    send([{"path": "/a", "at": yesterday.isoformat()}])
    later = MIDNIGHT + HOUR
    list(maintain(later, keep_hits_days=30, keep_hours_days=400))
    send([{"path": "/a", "at": yesterday.isoformat(), "n": 4}])
    assert set(LateDay.objects.values_list("day", flat=True)) == {yesterday.date()}
    list(maintain(later, keep_hits_days=30, keep_hours_days=400))
    assert list(DailyHits.objects.values_list("day", "hits")) == [(yesterday.date(), 5)]
    assert_the_books_balance()


# Idempotency-Key


def test_the_same_request_is_answered_alike_and_counted_once():
    answers = [told(send([{"path": "/a", "n": 3}], "k")) for _ in range(3)]
    assert answers == [(200, {"counted": 3})] * 3
    assert counts() == {"/a": 3}


def test_another_body_under_the_same_key_is_refused():
    send(ONE_HIT, "k")
    for body in (b'[{"path": "/b"}]', b"[]", b"nonsense"):
        answer = send_body(body, "k")
        assert told(answer) == (422, {"detail": "This Idempotency-Key came with another body before."})
    assert counts() == {"/a": 1}


def test_other_keys_and_no_keys_are_counted_each_time():
    for key in ("k", "K", None, None):
        send(ONE_HIT, key)
    assert counts() == {"/a": 4}


@pytest.mark.parametrize(("key", "same"), [("k", '"k"'), (r"a\b", r'"a\\b"'), (" k ", "k"), ("k=/+", '"k=/+"')])
def test_a_key_is_the_same_quoted_or_not(key, same):
    send(ONE_HIT, key)
    assert told(send(ONE_HIT, same)) == (200, {"counted": 1})
    assert counts() == {"/a": 1}


def test_a_key_may_have_255_bytes():
    assert [send(ONE_HIT, key).status_code for key in ("x" * 255, f'"{"x" * 255}"')] == [200, 200]
    assert counts() == {"/a": 1}


@pytest.mark.parametrize(
    "key", ["", " ", '""', "x" * 256, f'"{"x" * 256}"', "a\x00", '"a\t"', "a b", "ä", '"a', '"a";b', '"a", "b"']
)
def test_a_key_that_is_none_is_refused_by_the_name_of_its_header(key):
    status, body = told(send(ONE_HIT, key))
    assert (status, list(body)) == (400, ["Idempotency-Key"])
    assert counts() == {}


def test_a_request_that_was_refused_leaves_its_key_to_another():
    assert send([{"path": "a"}], "k").status_code == 400
    assert told(send(ONE_HIT, "k")) == (200, {"counted": 1})


def test_fifty_at_once_are_counted_once():
    answers = at_once(50, lambda: told(send_until_answered([{"path": "/a", "n": 7}], "k")))
    assert answers == [(200, {"counted": 7})] * 50
    assert counts() == {"/a": 7} and IdempotencyKey.objects.count() == 1


def send_until_answered(items: Any, key: str) -> Any:
    """As clients do when there are more of them than connections to the database."""
    while (answer := send(items, key)).status_code == 503:
        pass
    return answer


def at_once(number: int, act: Callable[[], Any]) -> list[Any]:
    """What each of so many threads got, which begin together."""
    start = threading.Barrier(number)

    def one(_: int) -> Any:
        start.wait()
        try:
            return act()
        finally:
            connection.close()

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(one, range(number)))


@pytest.mark.parametrize("fails", [False, True], ids=["counted", "failed"])
def test_requests_that_come_while_the_first_is_under_way_wait_for_its_end(fails):
    send([{"path": "/held"}])
    with ThreadPoolExecutor(1) as thread, psycopg.connect(conninfo()) as blocker:
        blocker.execute("SELECT 1 FROM counters_counter FOR UPDATE")
        answers = thread.submit(at_once, 5, lambda: send([{"path": "/held"}], "k").status_code)
        wait_until_waiting(5)
        if fails:
            cancel_the_first()
            wait_until_waiting(4)
        blocker.rollback()
    assert sorted(answers.result()) == [200] * 4 + [503 if fails else 200]
    assert counts() == {"/held": 2}


WAITING = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def wait_until_waiting(number: int) -> None:
    """Return once so many sessions wait for others."""
    deadline = time.monotonic() + 30
    with psycopg.connect(conninfo(), autocommit=True) as session:
        while session.execute(f"SELECT count(*) {WAITING}").fetchone() != (number,):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def cancel_the_first() -> None:
    """Cancel the statement that waits for the counter; the others wait for the key."""
    with psycopg.connect(conninfo(), autocommit=True) as session:
        session.execute(f"SELECT pg_cancel_backend(pid) {WAITING} AND query LIKE '%INSERT INTO counters_counter %'")


def test_a_request_that_is_sent_again_after_midnight_is_the_same():
    body = json.dumps([{"path": "/a"}, {"path": "/a", "at": MIDNIGHT.isoformat()}]).encode()
    for now in (MIDNIGHT - timedelta(seconds=1), MIDNIGHT, MIDNIGHT + DAY):
        counted = batches.count_once("k", body, lambda body, now=now: reported(items_of_list(body), now))
        assert counted == 2
    assert sorted(Hit.objects.values_list("at", flat=True)) == [MIDNIGHT - timedelta(seconds=1), MIDNIGHT]
    assert_the_books_balance()


def test_a_key_is_forgotten_after_a_week_and_not_before():
    for passed, counted in ((KEYS_KEPT - HOUR, 1), (KEYS_KEPT + HOUR, 2)):
        send(ONE_HIT, "k")
        list(maintain(hits.now() + passed, keep_hits_days=30, keep_hours_days=400))
        assert told(send(ONE_HIT, "k")) == (200, {"counted": 1})
        assert counts() == {"/a": counted}


# When the database cannot


class Cut(bulk.Load):
    """One hit; the connection is lost when it is written."""

    def __init__(self) -> None:
        super().__init__(bulk.salt_of)
        self.count(MIDNIGHT, "/a", Origin(Dimensions()))

    def write(self) -> None:
        super().write()
        with psycopg.connect(conninfo(), autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 10000)", [connection.connection.info.backend_pid])


def test_a_connection_that_is_lost_during_the_commit_leaves_it_in_doubt():
    with pytest.raises(bulk.InDoubt) as doubt:
        bulk.record(Cut(), lambda: None)
    connection.close()
    answer = unavailable(doubt.value)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "cannot be said" in json.loads(answer.content)["detail"]


def test_others_that_are_in_the_way_each_time_are_told_from_a_database_that_is_gone():
    tried: list[int] = []

    def lose() -> None:
        tried.append(1)
        raise OperationalError from errors.DeadlockDetected()

    with pytest.raises(bulk.InTheWay) as refused:
        bulk.record(bulk.Load(bulk.salt_of), lose)
    assert len(tried) == bulk.ATTEMPTS
    assert "nothing was counted" in json.loads(unavailable(refused.value).content)["detail"]


# The request


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonl", "*/*"]
)
def test_other_media_types_are_refused(content_type):
    status, body = told(send_body(b'[{"path": "/a"}]', content_type=content_type))
    assert (status, list(body)) == (415, ["detail"])


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "x"])
def test_an_encoded_body_is_refused(encoding):
    assert send(ONE_HIT, **{"Content-Encoding": encoding}).status_code == 415
    assert send(ONE_HIT, **{"Content-Encoding": "identity"}).status_code == 200


@pytest.mark.parametrize("method", ["get", "head", "put", "patch", "delete", "options"])
def test_other_methods_are_refused_with_allow(method):
    answer = getattr(Client(), method)("/hits/")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


def test_a_body_may_have_8_mb_and_no_more():
    just = b'[{"path": "/a"}]'.ljust(MOST_BODY_BYTES)
    assert told(send_body(just)) == (200, {"counted": 1})
    assert told(send_body(just + b" ")) == (413, {"detail": "A body has at most 8 MB."})
    assert told(send([{"path": "/a"}] * 10_001)) == (413, {"detail": "A request has at most 10,000 hits."})
    assert counts() == {"/a": 1}


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"[", b"[[", b"\xff", b"[" * 100_000, b"[NaN]", b"1" * 5_000])
def test_a_body_that_is_no_list_of_hits_is_a_bad_request(body):
    for content_type in ("application/json", NDJSON):
        status, answer = told(send_body(body, content_type=content_type))
        assert status == 400 and answer["detail"]
