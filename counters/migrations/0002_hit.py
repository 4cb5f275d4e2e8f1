"""The hit table, partitioned by day, which the ORM cannot make: one append-only row per hit, no unique index."""

import django.db.models.deletion
from django.db import migrations, models

CREATE = """
CREATE TABLE counters_hit (
    at timestamptz NOT NULL,
    counter_id uuid NOT NULL,
    hits integer NOT NULL,
    method text NOT NULL
) PARTITION BY RANGE (at);
CREATE INDEX hit_at ON counters_hit USING brin (at) WITH (pages_per_range = 32);
"""


class Migration(migrations.Migration):
    dependencies = [("counters", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="Hit",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "counter_id", "at", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("at", models.DateTimeField()),
                (
                    "counter",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="counters.counter",
                    ),
                ),
                ("hits", models.IntegerField()),
                ("method", models.TextField()),
            ],
            options={"db_table": "counters_hit", "managed": False},
        ),
        migrations.RunSQL(CREATE, "DROP TABLE counters_hit"),
    ]
