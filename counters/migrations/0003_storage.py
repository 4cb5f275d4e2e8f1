"""Room for updates in place (HOT), and a vacuum that keeps up with tables that are written all the time."""

from django.db import migrations

UPDATED_IN_PLACE = """
ALTER TABLE counters_counter SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE counters_hourlyhits SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE counters_batchledger SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
"""
AS_MADE = """
ALTER TABLE counters_counter RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_cost_delay);
ALTER TABLE counters_hourlyhits RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_cost_delay);
ALTER TABLE counters_batchledger RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
"""


class Migration(migrations.Migration):
    dependencies = [("counters", "0002_hit")]

    operations = [migrations.RunSQL(UPDATED_IN_PLACE, AS_MADE)]
