"""The tables. Every key of a count contains the path's id, so that each can be distributed by path (docs/adr/0004)."""

from __future__ import annotations

from datetime import UTC, date, datetime
from secrets import token_bytes
from typing import ClassVar
from uuid import UUID, uuid4

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.core.exceptions import ValidationError
from django.db import connection, models, transaction
from django.db.models import Expression, F, Func, Q
from django.db.models.functions import Cast, Floor, Greatest, Least
from rest_framework_api_key.models import AbstractAPIKey, APIKeyManager

from counters import days, hits
from counters.dimensions import PLAIN, SALT_BYTES, Dimensions, Origin, visitor
from counters.sql import load

_MISSING_DAYS = load("missing_days")

#: A counter that was reset and has no hit yet.
NO_MAGNITUDE = -1
ONE_HIT = 0  # the magnitude of one hit, and of no other number


def magnitude_of(hits: Expression | F) -> Expression:
    """How great a number of hits (at least 1) is, in quarters of a decade: floor(4 log10 hits).

    In double precision: PostgreSQL's logarithm of a numeric halves the rate at which hits are written.
    """
    return Cast(Floor(Func(Cast(hits, models.FloatField()), function="log") * 4), models.SmallIntegerField())


def path_begins_with(prefix: str) -> Q:
    """The condition that a path begins with `prefix`, as a range of the index on the path."""
    # No counted path holds a character so great: what lies between a prefix and this begins with the prefix.
    return Q(path__gte=prefix, path__lt=prefix + "\x7f")


class CounterManager(models.Manager["Counter"]):
    def increment(self, path: str, by: int = 1, *, origin: Origin = PLAIN, at: datetime | None = None) -> int:
        """Count `by` hits of `path` in the caller's own transaction, so that they are undone with it.

        `origin` is where they come from, `at` their time, aware; now when not given. Returns the path's new count.
        Raises hits.PathTooLong and hits.PathInvalid for a path that cannot be counted, ValueError when `by` is out of
        range.

        Whoever counts several paths in one transaction does so in the order of their ids (hits.counter_id): in
        another, it may deadlock with others, and PostgreSQL then undoes one of them. It may all the same when a
        combination of dimensions is new on that day, which others wait for as well.
        """
        if not 1 <= by <= hits.MOST_HITS_AT_ONCE:
            raise ValueError(f"Hits are counted up: by must be at least 1 and at most {hits.MOST_HITS_AT_ONCE:,}.")
        key = hits.counter_id(hits.check_path(path))
        at = (at or hits.now()).astimezone(UTC)
        Hit.objects.make_days(*days.due(at.date()))
        visitor = VisitorSalt.objects.visitor(origin, at.date())
        with transaction.atomic():
            total = self._add_to_counter(key, path, by, at)
            self._add_to_hour(key, by, at)
            DimensionSet.objects.know(origin.id, origin.dimensions, max(at.date(), hits.now().date()))
            Hit.objects.create(at=at, counter_id=key, hits=by, dimensions_id=origin.id, visitor=visitor)
        return total

    def _add_to_counter(self, key: UUID, path: str, by: int, at: datetime) -> int:
        first = {"path": path, "hits": by, "first_hit": at, "last_hit": at}
        added = {
            "hits": F("hits") + by,
            "first_hit": Least("first_hit", models.Value(at)),
            "last_hit": Greatest("last_hit", models.Value(at)),
        }
        while True:  # until it is made or found: one that is found may be forgotten before it can be added to
            _, created = self.get_or_create(id=key, defaults=first)
            if created:
                return by
            if self.filter(id=key).update(**added):
                return self.values_list("hits", flat=True).get(id=key)

    def _add_to_hour(self, key: UUID, by: int, at: datetime) -> None:
        bucket = {"counter_id": key, "hour": hits.hour_of(at)}
        _, created = HourlyHits.objects.get_or_create(**bucket, defaults={"hits": by})
        if not created:
            HourlyHits.objects.filter(**bucket).update(hits=F("hits") + by)


class Counter(models.Model):
    """The count of one path."""

    id = models.UUIDField(primary_key=True, help_text="BLAKE2b-128 of the path")
    path = models.TextField(db_collation="C", help_text="as requested, byte for byte, without the query string")
    hits = models.BigIntegerField()
    first_hit = models.DateTimeField(null=True)
    last_hit = models.DateTimeField(null=True)
    # An index on hits would make every increment write every index; this changes a few times in a counter's life.
    magnitude = models.GeneratedField(
        expression=models.Case(models.When(hits__gt=0, then=magnitude_of(F("hits"))), default=NO_MAGNITUDE),
        output_field=models.SmallIntegerField(),
        db_persist=True,
    )

    objects = CounterManager()

    class Meta:
        indexes = [
            models.Index(F("magnitude").desc(), "path", name="counter_magnitude"),
            models.Index("path", name="counter_path"),
        ]
        constraints = [models.CheckConstraint(condition=Q(hits__gte=0), name="counter_hits_not_negative")]

    def __str__(self) -> str:
        return self.path


class HourlyHits(models.Model):
    """The hits of one path in one hour."""

    pk = models.CompositePrimaryKey("counter_id", "hour")
    # No database constraint: it would cost a look-up per row, and the counter is always written beside it.
    counter = models.ForeignKey(Counter, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="hours")
    hour = models.DateTimeField(help_text="start of the hour, UTC")
    hits = models.BigIntegerField()

    class Meta:
        verbose_name_plural = "hourly hits"
        indexes = [BrinIndex("hour", name="hourlyhits_hour", pages_per_range=32)]

    def __str__(self) -> str:
        return f"{self.hits} in the hour of {self.hour:%Y-%m-%d %H:%M}"


class HitManager(models.Manager["Hit"]):
    def make_days(self, *wanted: date) -> None:
        """Make the partitions of these UTC days unless they are there."""
        with connection.cursor() as cursor:
            cursor.execute(_MISSING_DAYS, {"days": list(wanted), "hits": days.HIT_TABLE})
            for [day] in cursor.fetchall():
                cursor.execute(days.make_day(day).as_string(cursor.connection))


class DimensionSetManager(models.Manager["DimensionSet"]):
    def know(self, id: int, dimensions: Dimensions, today: date) -> None:
        """Have a row for this combination, which is in use on `today` (UTC)."""
        self.get_or_create(id=id, defaults={"seen": today, **dimensions._asdict()})
        # The consumer may have been forgotten, on a day on which the combination had to stay (counters/forget.py).
        self.filter(id=id, seen__lt=today).update(seen=today, consumer=dimensions.consumer)


class DimensionSet(models.Model):
    """One combination of what is known about hits besides path and time; a hit names it by its key (docs/adr/0007)."""

    id = models.BigIntegerField(primary_key=True, help_text="BLAKE2b-64 of the values")
    seen = models.DateField(help_text="last UTC day on which it was in use")
    method = models.TextField()
    status = models.SmallIntegerField(null=True)
    consumer = models.TextField()
    country = models.TextField()
    referrer = models.TextField(help_text="host")
    referrer_url = models.TextField()
    browser = models.TextField()
    os = models.TextField()
    device = models.TextField()
    bot = models.BooleanField()
    # With a default, so that workers of the version before can write on while they are replaced.
    route = models.TextField(db_default="", help_text="URL pattern")

    objects = DimensionSetManager()

    def __str__(self) -> str:
        return f"dimensions {self.id}"


class VisitorSaltManager(models.Manager["VisitorSalt"]):
    def visitor(self, origin: Origin, day: date) -> int | None:
        """The number that this origin's visitor goes by on a UTC day; None when they must not be identified."""
        if origin.identity is None:
            return None
        return visitor(origin, self.salt(day))

    def salt(self, day: date, *, until: date | None = None) -> bytes:
        """The salt of a UTC day, made unless it is there; `until`: not to be deleted before this day is over, too."""
        if until is None:
            self.make(day)
        else:
            made = VisitorSalt(day=day, salt=token_bytes(SALT_BYTES), until=until)
            self.bulk_create([made], update_conflicts=True, unique_fields=["day"], update_fields=["until"])
        return bytes(self.values_list("salt", flat=True).get(day=day))

    def make(self, *wanted: date) -> None:
        """Make the salts of these UTC days unless they are there."""
        salts = [VisitorSalt(day=day, salt=token_bytes(SALT_BYTES)) for day in wanted]
        self.bulk_create(salts, ignore_conflicts=True)

    def forget(self, before: date) -> None:
        """Delete the salts of days that are over, but for those that are wanted for longer."""
        self.filter(Q(until=None) | Q(until__lt=before), day__lt=before).delete()


class VisitorSalt(models.Model):
    """The random key under which visitors are hashed on one UTC day; deleted when the day is over.

    Hits that come later, from log files, would find nobody again: their days' salts are kept `until` another day.
    """

    day = models.DateField(primary_key=True)
    salt = models.BinaryField()
    until = models.DateField(null=True)

    objects = VisitorSaltManager()

    def __str__(self) -> str:
        return f"salt of {self.day}"


class Hit(models.Model):
    """One hit, or `hits` like ones of a batch. Append-only, a partition per UTC day, without any unique index."""

    # For the ORM's sake: the table has no such key, since one would cost more than the row itself.
    pk = models.CompositePrimaryKey("counter_id", "at")
    at = models.DateTimeField()
    counter = models.ForeignKey(Counter, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    hits = models.IntegerField()
    dimensions = models.ForeignKey(
        DimensionSet, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    visitor = models.BigIntegerField(null=True, help_text="empty when not identified")

    objects = HitManager()

    class Meta:
        managed = False
        db_table = days.HIT_TABLE

    def __str__(self) -> str:
        return f"{self.hits} at {self.at:%Y-%m-%d %H:%M:%S}"


class DailyHits(models.Model):
    """The hits of one path on one closed UTC day, rolled up; kept for ever.

    `part` is 0 for what the roll-up of the whole day found, and one more each time that hits arrived for a day whose
    hit rows were gone: the day's figures are the sums over its parts.
    """

    pk = models.CompositePrimaryKey("counter_id", "day", "part")
    counter = models.ForeignKey(Counter, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="days")
    day = models.DateField()
    part = models.SmallIntegerField()
    hits = models.BigIntegerField()
    visitors = models.BigIntegerField()
    bot_hits = models.BigIntegerField(help_text="of the hits")
    bot_visitors = models.BigIntegerField(help_text="of the visitors")
    # As text: it is read for one path at a time, and jsonb takes more room.
    dimensions = models.TextField(
        help_text="JSON: dimension -> value -> hits, visitors, and if there are any bot hits, bot visitors; "
        "a dimension of which nothing is known is left out"
    )

    class Meta:
        verbose_name_plural = "daily hits"
        indexes = [
            BrinIndex("day", name="dailyhits_day", pages_per_range=32),
            # Without the path, so that its many equal entries are kept as one (docs/adr/0011-leaders.md).
            models.Index("day", "part", F("hits").desc(), name="dailyhits_leaders"),
        ]

    def __str__(self) -> str:
        return f"{self.hits} on {self.day}"


class Rollup(models.Model):
    """The hits and visitors of all paths in one hour or on one UTC day, by the value of one dimension.

    The dimension "" has every hit, under the value "". `gap` says how many hours before `start` the same visitors were
    seen last with the same value on the same day, 0 for not at all: from one full hour to another of a day, those
    whose gap does not reach back to the first are counted, which is each of them once.
    """

    class Grain(models.TextChoices):
        HOUR = "hour"
        DAY = "day"

    pk = models.CompositePrimaryKey("dimension", "grain", "start", "value", "bot", "gap")
    dimension = models.TextField()
    grain = models.TextField(choices=Grain.choices)
    start = models.DateTimeField()
    value = models.TextField()
    bot = models.BooleanField()
    gap = models.SmallIntegerField()
    hits = models.BigIntegerField()
    visitors = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.dimension} {self.value} {self.grain} {self.start:%Y-%m-%d %H:%M}"


class DailyPaths(models.Model):
    """How many paths were hit on one closed UTC day, by how many days before they were hit last (`gap`; 0: never).

    Over several days, those whose gap does not reach back to the first are counted, which is each path once.
    """

    class Audience(models.TextChoices):
        ALL = "all"
        PEOPLE = "people"
        BOTS = "bots"

    pk = models.CompositePrimaryKey("day", "audience", "gap")
    day = models.DateField()
    audience = models.TextField(choices=Audience.choices)
    gap = models.IntegerField(help_text="days")
    paths = models.BigIntegerField()

    class Meta:
        verbose_name_plural = "daily paths"

    def __str__(self) -> str:
        return f"{self.paths} on {self.day}"


class RolledDay(models.Model):
    """A UTC day whose hits have been rolled up."""

    day = models.DateField(primary_key=True)
    rolled = models.DateTimeField()
    chained = models.BooleanField(default=False, help_text="whether its DailyPaths are right")
    removed = models.BigIntegerField(default=0, help_text="hits that resets took after the hit rows were gone")

    def __str__(self) -> str:
        return f"{self.day}"


class LateDay(models.Model):
    """A UTC day whose hit rows have changed since it was closed: its rollup is stale. Written by a trigger."""

    id = models.UUIDField(primary_key=True, db_default=Func(function="gen_random_uuid"))
    day = models.DateField()

    class Meta:
        indexes = [models.Index("day", name="lateday_day")]

    def __str__(self) -> str:
        return f"{self.day}"


class Retention(models.Model):
    """From which UTC day on something is kept; without a row, everything is."""

    class What(models.TextChoices):
        HITS = "hits"
        HOURS = "hours"

    what = models.TextField(primary_key=True, choices=What.choices)
    since = models.DateField()

    def __str__(self) -> str:
        return f"{self.what} since {self.since}"


class BatchLedger(models.Model):
    """What has been committed: a row per writer and batch, with the answer that was due for it."""

    pk = models.CompositePrimaryKey("writer", "batch")
    writer = models.UUIDField(help_text="drawn at random when a recorder starts")
    batch = models.BigIntegerField(help_text="numbered by the writer")
    at = models.DateTimeField()
    totals = models.TextField(help_text="each counter's new total, in the order of their ids, separated by spaces")

    class Meta:
        verbose_name_plural = "batch ledger"

    def __str__(self) -> str:
        return f"batch {self.batch} of {self.writer}"


class IdempotencyKey(models.Model):
    """A `POST /hits/` that has been counted, by its `Idempotency-Key`: sent again, it gets the same answer."""

    key = models.TextField(primary_key=True, db_collation="C")
    request = models.BinaryField(help_text="BLAKE2b-256 of the body")
    counted = models.BigIntegerField(help_text="hits, which is the answer")
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index("at", name="idempotencykey_at")]

    def __str__(self) -> str:
        return self.key


class ImportedLog(models.Model):
    """A log file, and how far it has been imported. It is known by what is in it, whatever name it has by now.

    Two logs that begin with the same line are told apart by what precedes the offset. `marks` tell an earlier copy of
    a log, which does not reach that far, by what precedes certain offsets before (importing.marked).
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    name = models.TextField(help_text="of the file that had new lines last")
    head = models.BinaryField(help_text="BLAKE2b-128 of its first line")
    offset = models.BigIntegerField(help_text="bytes that have been imported, before compression")
    tail = models.BinaryField(help_text="BLAKE2b-128 of what precedes the offset, 64 KiB at most")
    marks = models.BinaryField(help_text="the same of offsets before, one after the other")
    lines = models.BigIntegerField(help_text="among these bytes")
    hits = models.BigIntegerField(help_text="that were counted")
    updated = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-updated"]
        indexes = [models.Index("head", name="importedlog_head")]

    def __str__(self) -> str:
        return self.name


class LoadTestRun(models.Model):
    """A load test: what was asked and what was seen."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    started = models.DateTimeField(auto_now_add=True)
    url = models.TextField("service", help_text="address of the service that was tested")
    requested = models.PositiveIntegerField()
    concurrency = models.PositiveIntegerField()
    seed = models.TextField(blank=True)
    # With defaults in the database, so that workers of the version before can write on while they are replaced.
    ended = models.PositiveIntegerField(default=0, db_default=0, help_text="requests, answered or not, so far")
    report = models.JSONField(null=True, help_text="empty while the test runs, or when it was cut short")
    failure = models.TextField(blank=True, default="", db_default="", help_text="what went wrong, if that is known")

    class Meta:
        ordering = ["-started"]
        indexes = [models.Index("started", name="loadtestrun_started")]

    def __str__(self) -> str:
        return f"{self.requested:,} requests at {self.started:%Y-%m-%d %H:%M:%S} UTC"


class Verification(models.Model):
    """What was found when all books were verified; the last hundred are kept."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    at = models.DateTimeField()
    checked = models.BigIntegerField(help_text="paths")
    differing = models.BigIntegerField(help_text="of these paths")
    rollups_differing = models.BigIntegerField(help_text="figures rolled up of all paths")

    class Meta:
        ordering = ["-at"]
        indexes = [models.Index("at", name="verification_at")]

    def __str__(self) -> str:
        return f"{self.checked:,} paths at {self.at:%Y-%m-%d %H:%M:%S} UTC"

    @property
    def balance(self) -> bool:
        """Whether nothing differed."""
        return not (self.differing or self.rollups_differing)


class Scope(models.TextChoices):
    """What an API key may be for; `docs/access.md` has the table of who may what."""

    STATS = "stats", "read statistics, badges, the API's description, metrics and what happens now"
    INGEST = "ingest", "send hits in"
    LOADTEST = "loadtest", "run load tests"
    ADMIN = "admin", "all of these"


class ApiKeyManager(APIKeyManager):
    """Makes keys of 8 characters that name them and 32 random ones, 190 bits, which are kept as SHA-512."""


class ApiKey(AbstractAPIKey):
    """A key by which a program is known, with what it may do. Itself it is shown once and never kept."""

    scopes = ArrayField(models.TextField(choices=Scope.choices))
    last_use = models.DateTimeField(null=True, editable=False, help_text="to the minute")

    objects: ClassVar[ApiKeyManager] = ApiKeyManager()

    class Meta(AbstractAPIKey.Meta):
        verbose_name = "API key"
        constraints = [
            models.CheckConstraint(
                condition=Q(scopes__len__gt=0) & Q(scopes__contained_by=Scope.values), name="apikey_scopes"
            )
        ]

    def allows(self, scope: Scope) -> bool:
        """Whether what `scope` names may be asked for with this key."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


def _check_prefix(prefix: str) -> None:
    try:
        hits.check_path(prefix)
    except hits.HitRefused as refusal:
        raise ValidationError(f"No path begins so: {refusal}") from refusal


class ShareLink(models.Model):
    """A link by which anybody may look at the figures of the paths with a prefix, until it is revoked."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    name = models.TextField(help_text="whom it is for")
    prefix = models.TextField(
        db_collation="C",
        validators=[_check_prefix],
        help_text="Only paths that begin so are shown; /shop shows /shopping too, /shop/ does not.",
    )
    created = models.DateTimeField(auto_now_add=True)
    expires = models.DateTimeField(null=True, blank=True, help_text="from when on it shows nothing any more; UTC")
    revoked = models.BooleanField(default=False, help_text="It shows nothing any more, at once.")

    class Meta:
        ordering = ["-created"]

    def __str__(self) -> str:
        return self.name

    @property
    def in_force(self) -> bool:
        """Whether it is neither revoked nor expired."""
        return not self.revoked and (self.expires is None or self.expires > hits.now())

    def shows(self, path: str) -> bool:
        """Whether a path, or what begins with it, is among those that this link is for."""
        return path.startswith(self.prefix)
