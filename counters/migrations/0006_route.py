"""The dimension `route`: of hits that were counted before there was one, it is unknown."""

from django.db import migrations, models

# Days that have been rolled up have their hits under the unknown route, as under no dimension at all.
ROLL_UP = """
INSERT INTO counters_rollup (dimension, grain, start, value, bot, gap, hits, visitors)
SELECT 'route', grain, start, '', bot, gap, hits, visitors FROM counters_rollup WHERE dimension = ''
"""
FORGET = """
DELETE FROM counters_rollup WHERE dimension = 'route';
UPDATE counters_dailyhits SET dimensions = (dimensions::jsonb - 'route')::text WHERE dimensions LIKE '%"route":%'
"""


class Migration(migrations.Migration):
    dependencies = [("counters", "0005_rollups")]

    operations = [
        migrations.AddField("dimensionset", "route", models.TextField(db_default="", help_text="URL pattern")),
        migrations.RunSQL(ROLL_UP, FORGET),
    ]
