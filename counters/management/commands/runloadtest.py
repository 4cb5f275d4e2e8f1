"""Run a load test from the shell, and say what came of it."""

import json
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError
from tqdm import tqdm

from counters.access import SERVICE_HEADER, service_token
from counters.loadtest import generator, runs
from counters.loadtest.plan import CONCURRENCY, MOST_CONCURRENCY, Plan, Progress, Report
from counters.sentences import reason_of

_ELSEWHERE = "If it listens elsewhere, set HITCOUNTER_BIND as it has it, or give its --url."
INTERRUPTED = 130  # as shells have it: 128 and the number of SIGINT


class Command(BaseCommand):
    help = (
        "Send random hits to this service over HTTP and report what came back. "
        "Exit status 1 when the statistics did not gain exactly what was acknowledged."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        most = settings.HITCOUNTER_MAX_LOADTEST
        parser.add_argument(
            "--requests", type=int, default=1000, help=f"how many to send, at most {most} (default 1000)"
        )
        parser.add_argument(
            "--concurrency",
            type=int,
            default=CONCURRENCY,
            help=f"how many at a time, at most {MOST_CONCURRENCY} (default {CONCURRENCY})",
        )
        parser.add_argument(
            "--url",
            default=settings.HITCOUNTER_OWN_URL,
            help="where this service is reached, and sent a token that opens its statistics (default %(default)s)",
        )
        parser.add_argument("--seed", help="any text; the same seed draws the same paths again (default: a random one)")
        parser.add_argument("--json", action="store_true", help="print the report as JSON and nothing else")

    def handle(self, *args: Any, **options: Any) -> None:
        run = _performed(_plan(options))
        report = run.report
        self.stdout.write(json.dumps(report, indent=2) if options["json"] else _summary(report, run.seed))
        if report["counted"] != report["succeeded"]:
            raise CommandError(
                f"The statistics gained {report['counted']:,} hits where {report['succeeded']:,} were acknowledged."
            )


def _plan(options: dict[str, Any]) -> Plan:
    seed = {} if options["seed"] is None else {"seed": _checked_seed(options["seed"])}
    return Plan(
        url=_checked_url(options["url"]),
        requests=_checked_number("--requests", options["requests"], settings.HITCOUNTER_MAX_LOADTEST),
        concurrency=_checked_number("--concurrency", options["concurrency"], MOST_CONCURRENCY),
        **seed,
    )


def _checked_number(name: str, value: int, most: int) -> int:
    if not 1 <= value <= most:
        raise CommandError(f"{name} must be a whole number from 1 to {most}.")
    return value


def _checked_seed(text: str) -> str:
    if not text.isprintable():  # bytes that are no text among them, which the shell hands on
        raise CommandError("--seed must be text.")
    return text


def _checked_url(text: str) -> str:
    """The address without a slash at its end. A name or a password in it would be kept with the run: refused."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or "@" in text or parts.query or parts.fragment or not text.isprintable() or " " in text:
        raise CommandError(f"--url must be an address like {settings.HITCOUNTER_OWN_URL}.")
    return text.rstrip("/")


def _performed(plan: Plan) -> Any:
    try:
        return runs.perform(plan, send=_send_with_bar, headers=lambda: {SERVICE_HEADER: service_token()})
    except runs.ServiceAway as error:
        raise CommandError(f"{error} {_ELSEWHERE}") from error
    except runs.LoadTestError as error:
        raise CommandError(str(error)) from error
    except (DatabaseError, InterfaceError) as error:
        raise CommandError(f"The database cannot be used: {reason_of(error)}.") from error
    except KeyboardInterrupt:
        raise CommandError("The load test was interrupted; what it sent is counted.", returncode=INTERRUPTED) from None


def _send_with_bar(plan: Plan, progress: Progress) -> Report:
    """Send, with a progress bar where standard error is a terminal (tqdm's own rule for disable=None)."""
    with tqdm(total=plan.requests, unit=" requests", disable=None, leave=False) as bar:

        def told(ended: int) -> None:
            progress(ended)
            bar.update(ended)

        return generator.send(plan, progress=told)


def _summary(report: Report, seed: str) -> str:
    lines = [
        f"{report['requested']:,} requests in {report['seconds']:,.2f} s (seed {seed})",
        f"  acknowledged  {report['succeeded']:,}, {report['requests_per_second']:,.0f} per second",
        f"  failed        {report['failed']:,}{_listed(report['errors'])}",
        f"  latency       {_latencies(report['latency_ms'])}",
        f"  counted       {report['counted']:,} on {report['unique_paths']:,} paths",
    ]
    return "\n".join(lines)


def _listed(errors: dict[str, int]) -> str:
    return ": " + ", ".join(f"{number:,} {name}" for name, number in errors.items()) if errors else ""


def _latencies(latency_ms: dict[str, float | None]) -> str:
    known = [f"{name} {value:,.1f} ms" for name, value in latency_ms.items() if value is not None]
    return ", ".join(known) or "none was answered"
