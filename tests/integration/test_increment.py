"""Counter.objects.increment(): counting from Django code, in the caller's own transaction."""

from datetime import UTC, datetime

import pytest
from django.db import transaction

from counters.dimensions import Dimensions, Origin
from counters.hits import PathInvalid, PathTooLong, counter_id
from counters.models import Counter, Hit, HourlyHits

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
EVENING = datetime(2026, 3, 1, 18, 5, tzinfo=UTC)
POSTED = Origin(Dimensions(method="POST"))


def test_it_returns_the_new_count():
    assert [Counter.objects.increment("/api/a/"), Counter.objects.increment("/api/a/", by=4)] == [1, 5]


def test_it_keeps_counter_bucket_and_hit_row_together():
    Counter.objects.increment("/api/a/", at=NOON)
    Counter.objects.increment("/api/a/", by=2, at=EVENING, origin=POSTED)
    counter = Counter.objects.get(id=counter_id("/api/a/"))
    assert (counter.path, counter.hits, counter.first_hit, counter.last_hit) == ("/api/a/", 3, NOON, EVENING)
    assert list(HourlyHits.objects.order_by("hour").values_list("hour__hour", "hits")) == [(12, 1), (18, 2)]
    assert list(Hit.objects.order_by("at").values_list("at", "hits", "dimensions__method")) == [
        (NOON, 1, "GET"),
        (EVENING, 2, "POST"),
    ]


def test_it_is_undone_with_the_work_that_it_counts():
    def work() -> None:
        with transaction.atomic():
            Counter.objects.increment("/api/undone/")
            raise RuntimeError("the work failed")

    with pytest.raises(RuntimeError):
        work()
    assert not Counter.objects.filter(path="/api/undone/").exists()
    assert not Hit.objects.exists() and not HourlyHits.objects.exists()


def test_a_counter_that_is_forgotten_just_when_it_was_found_is_made_anew(monkeypatch):
    Counter.objects.increment("/api/a/")
    find, found = Counter.objects.get_or_create, []

    def find_and_lose(**options):
        answer = find(**options)
        if not found:
            Counter.objects.all().delete()
            HourlyHits.objects.all().delete()
        found.append(answer)
        return answer

    monkeypatch.setattr(Counter.objects, "get_or_create", find_and_lose)
    assert Counter.objects.increment("/api/a/", by=2) == 2
    assert len(found) == 2
    assert (Counter.objects.get().hits, HourlyHits.objects.get().hits) == (2, 2)


@pytest.mark.parametrize(
    ("path", "error"),
    [("/api/" + "x" * 2048, PathTooLong), ("/api/\n", PathInvalid), ("/api/é", PathInvalid), ("api/", PathInvalid)],
)
def test_a_path_that_cannot_be_counted_is_refused(path, error):
    with pytest.raises(error):
        Counter.objects.increment(path)


@pytest.mark.parametrize("by", [0, -1, 2**31])
def test_hits_are_counted_up(by):
    with pytest.raises(ValueError, match="at least 1"):
        Counter.objects.increment("/api/a/", by=by)
