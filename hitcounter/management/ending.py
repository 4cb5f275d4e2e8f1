"""How commands end that have started programs of their own."""

import signal
import sys


def end_on_signals() -> None:
    """Have SIGTERM and SIGHUP end this process by way of what it has yet to clean up."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: sys.exit(128 + received))
