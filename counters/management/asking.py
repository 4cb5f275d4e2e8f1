"""Questions before what cannot be undone."""

from django.core.management import CommandError


def confirm(loss: str, unchanged: str) -> None:
    """Say what is lost, and return if somebody types yes; else raise CommandError, which says what was left alone."""
    try:
        answer = input(f"{loss} for good. Type yes to go on: ")
    except EOFError:
        answer = ""
    if answer.strip().lower() != "yes":
        raise CommandError(f"{unchanged}, since the answer was not yes; --yes asks nothing.")
