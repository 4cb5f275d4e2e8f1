"""Paths and values as people read them, harmless whatever they hold. Pure."""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

_ESCAPED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
#: What means something else in a path once it is decoded, and what nobody has to encode (RFC 3986 section 2.3): that is
#: another path where it is encoded all the same.
_KEPT = frozenset("%/?#-._~" + string.ascii_letters + string.digits)
#: Of spaces, HTML shows one alone between other characters.
_SPACES = re.compile(r" {2,}| $")
_SPACES_OF_VALUES = re.compile(r"^ +| {2,}| +$")
#: More marks than these upon one letter reach into other lines; languages have up to three.
_MOST_MARKS = 3
#: Marks and letters that have no looks of their own, which Python takes for printable: joiners, fillers, selectors.
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
#: What a path may hold as it is in an address (RFC 3986 section 3.3), and what programs that follow one resolve in it.
_ADDRESSED = re.compile(r"/([!$&'()*+,\-./:;=@_~0-9A-Za-z]|%[0-9A-Fa-f]{2})*")
_RESOLVED = re.compile(r"/(\.|%2[Ee]){1,2}(/|$)")
#: What `value_shown` writes, in a value as it is.
_WRITTEN = re.compile(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


def path_shown(path: str) -> str:
    """A counted path with its percent-encoding decoded where that reads as text (RFC 3986 section 2.1, in UTF-8).

    What cannot be seen (controls, marks of direction, bytes that are no text) and what would be taken for something
    else stays encoded.
    """
    decoded = _ESCAPED.sub(lambda escaped: _decoded(escaped[0]), path)
    return _SPACES.sub(lambda spaces: "%20" * len(spaces[0]), decoded)


def paths_shown(paths: Sequence[str]) -> list[str]:
    """Distinct paths, all of which look different: those that would look alike are as they were sent.

    `(` and `%28` are two paths, as are `%c3%a9` and `%C3%A9`; which of them a client sends is up to its library.
    """
    shown = [path_shown(path) for path in paths]
    times = Counter(shown)
    return [text if times[text] == 1 else path for path, text in zip(paths, shown, strict=True)]


def is_addressed(path: str) -> bool:
    """Whether a request for an address with this path asks for this very path, whichever browser or program sends it.

    They send another where one holds dots as segments, a backslash or braces; and none sends what follows `?` or `#`.
    """
    return bool(_ADDRESSED.fullmatch(path)) and not _RESOLVED.search(path)


def value_shown(value: str) -> str:
    """A dimension's value with what cannot be seen made visible, as Python would write it; no two look the same."""
    unseen = _unseen(value)
    if not unseen and not _WRITTEN.search(value):
        return value
    return "".join(
        _written(character) if at in unseen else r"\\" if character == "\\" else character
        for at, character in enumerate(value)
    )


def _unseen(value: str) -> set[int]:
    """Where in a value are characters that cannot be seen, or that would cover what others see."""
    found = {at for at, character in enumerate(value) if not _reads(character)}
    for spaces in _SPACES_OF_VALUES.finditer(value):
        found.update(range(*spaces.span()))
    marks = _MOST_MARKS  # none may stand first: it would be upon what is before the value
    for at, character in enumerate(value):
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if marks > _MOST_MARKS:
            found.add(at)
    return found


def _decoded(escaped: str) -> str:
    """The characters of percent-encoded bytes, those that are to stay as they were sent."""
    shown, at = "", 0
    while at < len(escaped):
        length = 3 * _length(int(escaped[at + 1 : at + 3], 16))
        encoded = escaped[at : at + length]
        character = _character(encoded)
        shown += character or encoded[:3]
        at += length if character else 3
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
    return character if len(character) == 1 and _reads(character) and character not in _KEPT else ""


def _reads(character: str) -> bool:
    return character.isprintable() and not _BLANK.match(character)


def _written(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
