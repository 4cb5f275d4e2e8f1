"""Paths and values as people read them, harmless whatever they hold. Pure."""

import re
from urllib.parse import unquote_to_bytes

_ESCAPED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
#: What means something else in a path, or would no longer be told apart, once it is decoded.
_KEPT = frozenset("%/?#")


def path_shown(path: str) -> str:
    """A counted path with its percent-encoding decoded where that reads as text (RFC 3986 section 2.1, in UTF-8).

    What cannot be seen (controls, marks of direction, bytes that are no text) and what would be taken for something
    else stays encoded.
    """
    return _ESCAPED.sub(lambda escaped: _decoded(escaped[0]), path)


def value_shown(value: str) -> str:
    """A dimension's value with what cannot be seen made visible, as Python would write it."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in value)


def _decoded(escaped: str) -> str:
    """The characters of percent-encoded bytes, those that are to stay as they were sent."""
    shown, at = "", 0
    while at < len(escaped):
        length = 3 * _length(int(escaped[at + 1 : at + 3], 16))
        encoded = escaped[at : at + length]
        shown += _character(encoded) or encoded[:3]
        at += length if _character(encoded) else 3
    return shown


def _length(first: int) -> int:
    """How many bytes a character that begins with this one has in UTF-8."""
    return 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4


def _character(encoded: str) -> str:
    """The character that reads as text, "" for none."""
    try:
        character = unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        return ""
    return character if len(character) == 1 and character.isprintable() and character not in _KEPT else ""
