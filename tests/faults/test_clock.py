"""The host's clock is set back and forward, and passes midnights and changes of time: hits have the hours it told."""

import asyncio
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Self
from zoneinfo import ZoneInfo

import psycopg
import pytest

from counters import books, maintenance, models, stats
from counters.dimensions import Dimensions, Origin
from counters.hits import hour_of
from counters.ingest.recorder import Recorder
from counters.ingest.writer import PostgresWriter
from counters.periods import Period
from counters.questions import Question
from hitcounter.asgi import conninfo
from hitcounter.postgres import PrivatePostgres
from tests.acceptance.test_live import listening
from tests.client import ask
from tests.faults.conftest import Trial
from tests.faults.trials import Outcome
from tests.load import Load
from tests.oracle import DAY, Made
from tests.processes import wait_until
from tests.service import Service

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
PERSON = Origin(Dimensions("GET", 200, country="DE"), b"ann")
PATHS = ["/api/a", "/api/b"]
ZONES = [ZoneInfo(name) for name in ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")]
#: A little before midnights, ends of months and changes of the time in these zones.
MOMENTS = [
    datetime(2026, month, day, hour, minute, 50, tzinfo=UTC)
    for month, day, hour, minute in [
        (3, 1, 23, 59),
        (3, 29, 0, 59),
        (10, 25, 0, 59),
        (11, 1, 5, 59),
        (4, 4, 14, 59),
        (10, 3, 15, 29),
        (12, 31, 23, 59),
    ]
]
STEPS = [SECOND / 2, SECOND, 20 * SECOND, 10 * timedelta(minutes=1), HOUR]
#: Of a few walks, none may come back to a day that was closed.
MOST_WALKS = 60
JUMPS = [-HOUR, -HOUR, -DAY, -DAY / 2, -10 * SECOND, DAY, 2 * DAY, -3 * DAY]


def times_of(draw: random.Random, number: int) -> list[datetime]:
    """What a clock says that goes on, and is set back or forward now and then."""
    at, told = draw.choice(MOMENTS), []
    for _ in range(number):
        at += draw.choice(JUMPS) if draw.random() < 0.2 else draw.choice(STEPS)
        told.append(at)
    return told


class Recording:
    """A recorder of this process, whose clock says what it is told."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._at = MOMENTS[0]
        self.made: list[Made] = []

    def __enter__(self) -> Self:
        self._runner.__enter__()
        self._recorder = self._runner.run(self._begin())
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.run(self._recorder.close())
        self._runner.__exit__(*error)

    async def _begin(self) -> Recorder:
        recorder = Recorder(PostgresWriter(conninfo(), clock=lambda: self._at))
        await recorder.start()
        return recorder

    def hit(self, at: datetime, path: str, number: int) -> None:
        """Some hits in one batch, when the clock says `at`."""
        self._at = at
        self._runner.run(self._record(path, number))
        self.made.append(Made(at, path, PERSON, number))

    async def _record(self, path: str, number: int) -> None:
        await asyncio.gather(*[self._recorder.record(path, PERSON) for _ in range(number)])


def test_whatever_the_clock_says_hits_are_in_the_hour_that_it_said(afresh: Callable[[], None], trial: Trial):
    """Batches by a clock of the test's own; maintenance, by the same clock, closes days that it comes back to."""
    least, walks = trial.times(4, 60), 0
    hits = closed = 0
    while walks < least or not (closed or walks == MOST_WALKS):
        walks += 1
        afresh()
        with Recording() as recording:
            closed += walk(recording, trial.draw)
        assert_all_as_the_clock_said(recording.made)
        maintain(max(one.at for one in recording.made) + 2 * DAY)
        assert_all_as_the_clock_said(recording.made)
        hits += sum(one.number for one in recording.made)
    assert closed > 0, "no hit came for a day that was closed"
    fault = "clock set back and forward, over midnights and changes of time"
    # Lost and double are none, since it has all been compared, hour by hour.
    trial.note(Outcome(fault, walks, hits, hits, hits, 0, 0, besides=f"{closed} hits for days that were closed"))


def walk(recording: Recording, draw: random.Random) -> int:
    """Hits, and maintenance now and then, while the clock is set; returns how many came for days that were closed."""
    keep_hits_days, closed = draw.choice([1, 30]), 0
    for at in times_of(draw, 30):
        for _ in range(draw.randint(1, 3)):
            recording.hit(at, draw.choice(PATHS), draw.randint(1, 3))
        closed += models.RolledDay.objects.filter(day=at.date()).count()
        if draw.random() < 0.3:
            maintain(at, keep_hits_days)
    return closed


def maintain(at: datetime, keep_hits_days: int = 30) -> None:
    said = list(maintenance.maintain(at, keep_hits_days=keep_hits_days, keep_hours_days=400))
    assert not [done for done in said if isinstance(done, maintenance.Failed)], said


def assert_all_as_the_clock_said(made: list[Made]) -> None:
    hours: Counter[tuple[str, datetime]] = Counter()
    for at, path, _, number in made:
        hours[path, hour_of(at)] += number
    assert dict(hours_kept()) == hours
    for counter in models.Counter.objects.all():
        own = [one.at for one in made if one.path == counter.path]
        assert (counter.first_hit, counter.last_hit) == (min(own), max(own))
    assert not models.Hit.objects.filter(hits__lt=1).exists()
    verdict = books.verify(lambda difference: pytest.fail(str(difference)))
    assert verdict[1:] == (0, 0)
    for zone in ZONES:
        assert_days_are_those_of(zone, made)


def hours_kept() -> Iterator[tuple[tuple[str, datetime], int]]:
    for path, hour, hits in models.HourlyHits.objects.values_list("counter__path", "hour", "hits"):
        yield (path, hour), hits


def assert_days_are_those_of(zone: ZoneInfo, made: list[Made]) -> None:
    """The figures of each day and of each hour by the clocks of a zone, where they are still kept."""
    first, last = min(one.at for one in made).astimezone(zone), max(one.at for one in made).astimezone(zone)
    period = Period(_midnight(first).astimezone(UTC), _midnight(last + DAY).astimezone(UTC), zone)
    for interval in ("day", "hour"):
        try:
            points = stats.series(Question(period), interval)
        except stats.NotKept:
            assert zone.key != "UTC"
            continue
        ends = [*[point.at for point in points[1:]], period.end]
        told = [point.hits for point in points]
        assert told == [
            sum(one.number for one in made if point.at <= one.at < end) for point, end in zip(points, ends, strict=True)
        ]


def _midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


# The real service, whose clock is another than PostgreSQL's and ours


FAKETIME = shutil.which("faketime")
if not FAKETIME and os.environ.get("CI"):
    raise RuntimeError("There is no faketime, without which nothing can be said about a clock that is set.")


#: The library takes a time of the monotonic clock, until which Python's own sleeps, for one of the clock that it sets.
SLEEP = """
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds)
"""


class Clock:
    """The time that the processes of a service are told; it can be set while they run. Ours goes on."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        (directory / "sitecustomize.py").write_text(SLEEP)
        self._file = directory / "time"
        self._ahead = timedelta()
        self.set(datetime.now(UTC))
        library = subprocess.run(
            [FAKETIME or "", "-m", "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, text=True, check=True
        )
        #: What a process needs to be told it. Its monotonic clock and the times of files stay as they are.
        self.environment = {
            "LD_PRELOAD": library.stdout.strip(),
            "PYTHONPATH": str(directory),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # else threads wait much longer than they ask for
            "NO_FAKE_STAT": "1",
        }

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def set(self, at: datetime) -> None:
        """Have it say `at`, to the second, and go on from there."""
        self._ahead = timedelta(seconds=round((at - datetime.now(UTC)).total_seconds()))
        new = self._file.with_suffix(".new")
        new.write_text(f"{self._ahead.total_seconds():+.0f}")
        new.rename(self._file)


class Phase(NamedTuple):
    """Hits of a path of their own, and the time that the clock said before the first and after the last."""

    path: str
    begun: datetime
    ended: datetime
    hits: int


def hits_of_a_phase(service: Service, clock: Clock, path: str, until: datetime) -> Phase:
    """Ask for a path until the clock says so late."""
    begun, hits = clock.now(), 0
    while clock.now() < until or hits < 20:
        assert ask(service, path).status == 200
        hits += 1
    return Phase(path, begun, clock.now(), hits)


def courses(draw: random.Random, rounds: int) -> Iterator[datetime]:
    """What the clock is set to: the end of a day, back an hour, back over midnight, forward a day, over a change."""
    for _ in range(rounds):
        midnight = datetime(2026, draw.randint(1, 12), draw.randint(1, 28), tzinfo=UTC)
        yield from (midnight - 2 * SECOND, midnight - HOUR, midnight + HOUR, midnight - DAY, midnight + DAY)
        yield draw.choice(MOMENTS) + 8 * SECOND


@pytest.mark.long
def test_a_service_whose_clock_is_set_counts_hits_at_the_time_that_it_said(
    tmp_path: Path, database: PrivatePostgres, trial: Trial
):
    trial.need(FAKETIME, "there is no faketime")
    rounds = trial.times(1, 4)
    clock = Clock(tmp_path / "clock")
    settings = {
        "HITCOUNTER_WORKERS": "2",
        "HITCOUNTER_KEEP_HITS_DAYS": "4000",
        "HITCOUNTER_KEEP_HOURS_DAYS": "4000",
        **clock.environment,
    }
    with Service(tmp_path, DATABASE_URL=database.url, **settings) as service:
        phases = []
        with Load(service, "/api/clock/", trial.seed, clients=4) as load:
            for number, at in enumerate(courses(trial.draw, rounds)):
                with listening(service) as events:
                    next(events)
                    clock.set(at)
                    phases.append(hits_of_a_phase(service, clock, f"/api/phase/{number}", at + 4 * SECOND))
                    assert_told_soon(events, at)
                assert_readable(service, clock)
                wait_until(lambda: service.manage("maintain").returncode == 0)  # the service's own may be at work
            load.wait_for(100)
        trial.settle("the service's clock set back and forward", len(phases), load, service, "hours as it said")
    with psycopg.connect(database.url, autocommit=True) as session:
        for phase in phases:
            assert_counted_meanwhile(session, phase)
        assert session.execute(HOURS_THAT_DIFFER).fetchall() == []
        assert session.execute("SELECT 1 FROM counters_counter WHERE first_hit > last_hit").fetchall() == []


def assert_told_soon(events: Iterator[dict[str, object]], at: datetime) -> None:
    """The live page goes on with the time that it is."""
    for event in events:
        if "at" in event and abs(datetime.fromisoformat(str(event["at"])) - at) < 60 * SECOND:
            return
    raise AssertionError("the stream ended")


def assert_readable(service: Service, clock: Clock) -> None:
    day = clock.now().date()
    for page in ("/", "/stats/", f"/stats/series/?interval=hour&from={day - DAY}&to={day + DAY}&tz=Europe/Berlin"):
        assert service.get(page).status_code == 200, page


def assert_counted_meanwhile(session: psycopg.Connection[tuple[object, ...]], phase: Phase) -> None:
    """All hits of a phase, and each between its beginning and its end."""
    rows = session.execute(
        "SELECT c.hits, sum(h.hits), min(h.at), max(h.at), c.first_hit, c.last_hit"
        " FROM counters_counter AS c JOIN counters_hit AS h ON h.counter_id = c.id WHERE c.path = %s GROUP BY c.id",
        [phase.path],
    ).fetchall()
    [(counted, kept, first, last, *of_counter)] = rows
    assert counted == kept == phase.hits
    assert [first, last] == of_counter
    assert phase.begun - SECOND <= first <= last <= phase.ended + SECOND, phase


#: Of which the hit rows of the hour have another sum.
HOURS_THAT_DIFFER = """
    SELECT * FROM counters_hourlyhits AS h FULL JOIN (
        SELECT counter_id, date_trunc('hour', at, 'UTC') AS hour, sum(hits) AS hits FROM counters_hit GROUP BY 1, 2
    ) AS rows USING (counter_id, hour)
    WHERE h.hits IS DISTINCT FROM rows.hits OR h.hits < 0
"""
