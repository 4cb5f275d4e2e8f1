"""What is kept of days that are over: figures per path and per dimension, and how far back the rest is kept."""

import django.contrib.postgres.indexes
import django.db.models.deletion
from django.db import migrations, models

# Bound to the partition of a day when that is closed: whoever changes its hits later, in whichever way, leaves a note
# in the same transaction. Notes are only ever added, so that nobody waits. Each transaction leaves its own (a setting
# remembers that until its end), since another's may be read and deleted before this one commits.
NOTE_LATE = """
CREATE FUNCTION counters_note_late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('counters.noted_late', true) IS DISTINCT FROM TG_ARGV[0] THEN
        INSERT INTO counters_lateday (day) VALUES (TG_ARGV[0]::date);
        PERFORM set_config('counters.noted_late', TG_ARGV[0], true);
    END IF;
    RETURN coalesce(NEW, OLD);
END
$$
"""


class Migration(migrations.Migration):
    dependencies = [("counters", "0004_dimensions")]

    operations = [
        migrations.CreateModel(
            name="DailyHits",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "counter_id", "day", "part", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "counter",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="days",
                        to="counters.counter",
                    ),
                ),
                ("day", models.DateField()),
                ("part", models.SmallIntegerField()),
                ("hits", models.BigIntegerField()),
                ("visitors", models.BigIntegerField()),
                ("bot_hits", models.BigIntegerField(help_text="of the hits")),
                ("bot_visitors", models.BigIntegerField(help_text="of the visitors")),
                (
                    "dimensions",
                    models.TextField(
                        help_text="JSON: dimension -> value -> hits, visitors, and if there are any bot hits, bot "
                        "visitors; a dimension of which nothing is known is left out"
                    ),
                ),
            ],
            options={"verbose_name_plural": "daily hits"},
        ),
        migrations.CreateModel(
            name="DailyPaths",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "day", "audience", "gap", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("day", models.DateField()),
                (
                    "audience",
                    models.TextField(choices=[("all", "All"), ("people", "People"), ("bots", "Bots")]),
                ),
                ("gap", models.IntegerField(help_text="days")),
                ("paths", models.BigIntegerField()),
            ],
            options={"verbose_name_plural": "daily paths"},
        ),
        migrations.CreateModel(
            name="Rollup",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "dimension",
                        "grain",
                        "start",
                        "value",
                        "bot",
                        "gap",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("dimension", models.TextField()),
                ("grain", models.TextField(choices=[("hour", "Hour"), ("day", "Day")])),
                ("start", models.DateTimeField()),
                ("value", models.TextField()),
                ("bot", models.BooleanField()),
                ("gap", models.SmallIntegerField()),
                ("hits", models.BigIntegerField()),
                ("visitors", models.BigIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="RolledDay",
            fields=[
                ("day", models.DateField(primary_key=True, serialize=False)),
                ("rolled", models.DateTimeField()),
                ("chained", models.BooleanField(default=False, help_text="whether its DailyPaths are right")),
                (
                    "removed",
                    models.BigIntegerField(default=0, help_text="hits that resets took after the hit rows were gone"),
                ),
            ],
        ),
        migrations.CreateModel(
            name="LateDay",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        db_default=models.Func(function="gen_random_uuid"), primary_key=True, serialize=False
                    ),
                ),
                ("day", models.DateField()),
            ],
        ),
        migrations.CreateModel(
            name="Retention",
            fields=[
                (
                    "what",
                    models.TextField(choices=[("hits", "Hits"), ("hours", "Hours")], primary_key=True, serialize=False),
                ),
                ("since", models.DateField()),
            ],
        ),
        migrations.AddIndex(
            "hourlyhits",
            django.contrib.postgres.indexes.BrinIndex("hour", name="hourlyhits_hour", pages_per_range=32),
        ),
        migrations.AddIndex("lateday", models.Index("day", name="lateday_day")),
        migrations.AddIndex(
            "dailyhits",
            django.contrib.postgres.indexes.BrinIndex("day", name="dailyhits_day", pages_per_range=32),
        ),
        migrations.RunSQL(NOTE_LATE, "DROP FUNCTION counters_note_late"),
    ]
