"""Errors as one line that may stand in a log."""


def sentence_of(error: BaseException) -> str:
    """What a database error says first: what follows (DETAIL, CONTEXT) may quote rows, and what clients sent with them.

    Of other errors, all that they say.
    """
    diagnostics = getattr(error.__cause__ or error, "diag", None)
    primary = diagnostics.message_primary if diagnostics else None
    return " ".join((primary or str(error)).split())


def reason_of(error: BaseException) -> str:
    """What a database error says in its first line, without a full stop: further lines are hints or other attempts."""
    return " ".join(str(error).partition("\n")[0].split()).rstrip(".")
