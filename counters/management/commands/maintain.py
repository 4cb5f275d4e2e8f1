"""Do the housekeeping that the running service does every minute."""

from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError
from django.db import DatabaseError

from counters import hits
from counters.maintenance import Failed, MaintenanceBusy, PutOff, maintain
from counters.sentences import reason_of


class Command(BaseCommand):
    help = (
        "Make day partitions ahead, roll up the days that are over, and drop what need not be kept longer "
        "(HITCOUNTER_KEEP_HITS_DAYS, HITCOUNTER_KEEP_HOURS_DAYS). The running service does the same every minute; "
        "done twice, or cut short and done again, it comes to the same."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        failed = 0
        try:
            for done in maintain(
                hits.now(),
                keep_hits_days=settings.HITCOUNTER_KEEP_HITS_DAYS,
                keep_hours_days=settings.HITCOUNTER_KEEP_HOURS_DAYS,
            ):
                failed += isinstance(done, Failed)
                (self.stderr if isinstance(done, Failed | PutOff) else self.stdout).write(done)
        except MaintenanceBusy as error:
            raise CommandError(f"{error} Try again later.") from None
        except DatabaseError as error:
            raise CommandError(f"Maintenance was cut short: {reason_of(error)}.") from error
        if failed:
            raise CommandError(f"{failed} of the steps failed; they are tried again the next time.")
        self.stdout.write("All is done that is due.")
