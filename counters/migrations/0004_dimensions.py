"""What is known about each hit: a key to its combination of values, and its visitor's number on that day."""

from datetime import date

import django.db.models.deletion
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

from counters.dimensions import Dimensions

ADD = "ALTER TABLE counters_hit ADD COLUMN dimensions_id bigint, ADD COLUMN visitor bigint"
REMOVE = "ALTER TABLE counters_hit DROP COLUMN dimensions_id, DROP COLUMN visitor"
REQUIRE = "ALTER TABLE counters_hit ALTER COLUMN dimensions_id SET NOT NULL, DROP COLUMN method"
ALLOW = (
    "ALTER TABLE counters_hit ADD COLUMN method text NOT NULL DEFAULT 'GET', ALTER COLUMN dimensions_id DROP NOT NULL"
)


def translate(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Give the hits that are there, of which only the method is known, the key of that."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT method FROM counters_hit")
        sets = apps.get_model("counters", "DimensionSet")
        # Dimensions that have come since are no columns yet.
        fields = [field.name for field in sets._meta.fields if field.name in Dimensions._fields]
        for [method] in cursor.fetchall():
            known = Dimensions(method=method)
            values = {name: getattr(known, name) for name in fields}
            sets.objects.create(id=known.id, seen=date.today(), **values)
            cursor.execute("UPDATE counters_hit SET dimensions_id = %s WHERE method = %s", [known.id, method])


class Migration(migrations.Migration):
    dependencies = [("counters", "0003_storage")]

    operations = [
        migrations.CreateModel(
            name="DimensionSet",
            fields=[
                ("id", models.BigIntegerField(help_text="BLAKE2b-64 of the values", primary_key=True, serialize=False)),
                ("seen", models.DateField(help_text="last UTC day on which it was in use")),
                ("method", models.TextField()),
                ("status", models.SmallIntegerField(null=True)),
                ("consumer", models.TextField()),
                ("country", models.TextField()),
                ("referrer", models.TextField(help_text="host")),
                ("referrer_url", models.TextField()),
                ("browser", models.TextField()),
                ("os", models.TextField()),
                ("device", models.TextField()),
                ("bot", models.BooleanField()),
            ],
        ),
        migrations.CreateModel(
            name="VisitorSalt",
            fields=[
                ("day", models.DateField(primary_key=True, serialize=False)),
                ("salt", models.BinaryField()),
            ],
        ),
        migrations.RunSQL(ADD, REMOVE),
        migrations.RunPython(translate, migrations.RunPython.noop),
        migrations.RunSQL(REQUIRE, ALLOW),
        # The table is not managed: these change only what Django knows of it.
        migrations.RemoveField("hit", "method"),
        migrations.AddField(
            "hit",
            "dimensions",
            models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="counters.dimensionset",
            ),
        ),
        migrations.AddField("hit", "visitor", models.BigIntegerField(help_text="empty when not identified", null=True)),
    ]
