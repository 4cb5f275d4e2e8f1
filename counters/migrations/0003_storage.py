"""Room for updates in place (HOT), and a vacuum that keeps up with tables that are written all the time."""

from django.db import migrations

UPDATED_IN_PLACE = """
ALTER TABLE {table} SET (
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0
)
"""
UPDATED_AS_MADE = """
ALTER TABLE {table} RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_cost_delay)
"""
PRUNED_OFTEN = """
ALTER TABLE counters_batchledger SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)
"""
PRUNED_AS_MADE = """
ALTER TABLE counters_batchledger RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold)
"""


class Migration(migrations.Migration):
    dependencies = [("counters", "0002_hit")]

    operations = [
        *(
            migrations.RunSQL(UPDATED_IN_PLACE.format(table=table), UPDATED_AS_MADE.format(table=table))
            for table in ("counters_counter", "counters_hourlyhits")
        ),
        migrations.RunSQL(PRUNED_OFTEN, PRUNED_AS_MADE),
    ]
