"""What a user agent tells about itself: browser, operating system, type of device, and whether it is a bot. Pure.

The families are ua-parser's. Its devices are makes and models, of which only the type is kept here, told by the words
that browsers agree on. An iPad that asks for desktop pages calls itself a Mac, and nobody can tell.

A bot is who ua-parser calls a spider, or who says so in a well-known word, monitors and previews among them. HTTP
libraries and tools (curl, python-requests, Go-http-client, wrk) are no bots: an API's real clients are such programs.
"""

import re
from functools import cache, lru_cache
from typing import NamedTuple

from ua_parser import Domain
from ua_parser.loaders import load_lazy_builtins
from ua_parser.regex import Resolver  # in Rust, named so that a slower one is never taken for it in silence

#: More of a user agent than this is not read. Browsers send about 120 bytes, those within other apps up to 400.
LONGEST_READ = 512
_MOST_REMEMBERED = 4096
_LONGEST_FAMILY = 64

CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SPIDER = "Spider"
_BOT = re.compile(
    r"(?<!cu)bots?(?![a-z])"  # Cubot makes telephones
    r"|crawl|spider|slurp|scrap(?:er|y)|headless|lighthouse|archiver|externalhit|pingdom|uptime|googleother"
    r"|health-?check|\bprobe\b|\b(?:chatgpt|claude|perplexity|mistralai)-user\b",
    re.IGNORECASE,
)
# ua-parser has these among its spiders: the clients of Java, Python and Windows, and a browser.
_NO_SPIDER = re.compile(r"^(?:java|python-urllib|google-http-java-client|.*winhttp)|\bsilk/", re.IGNORECASE)
# The first that matches. Browsers on Android say Mobile on a telephone and leave it out on a tablet; apps never say it.
_DEVICES = [
    (device, re.compile(words, re.IGNORECASE))
    for device, words in (
        ("tv", r"smart-?tv|\b(?:google|apple|android) ?tv|hbbtv|web0s|bravia|\baft[a-z]|crkey|roku|\btv\b"),
        ("console", r"playstation|xbox|nintendo"),
        ("tablet", r"ipad|tablet(?! pc)|kindle|^mozilla.*android(?!.*mobile)"),
        ("mobile", r"iphone|ipod|android|mobile|windows phone|kaios|opera mini"),
        ("desktop", r"^(?:mozilla|opera)/.*(?:windows nt|macintosh|x11|cros)"),
    )
]


class Agent(NamedTuple):
    """A user agent; the empty string is unknown. `device` is desktop, mobile, tablet, tv or console."""

    browser: str = ""
    os: str = ""
    device: str = ""
    bot: bool = False


@cache
def resolver() -> Resolver:
    """ua-parser's rules, which take a fifth of a second and 35 MB to load; whoever counts loads them beforehand."""
    return Resolver(load_lazy_builtins())


@lru_cache(_MOST_REMEMBERED)
def agent(user_agent: bytes) -> Agent:
    """What is known about the sender of this header, cut to LONGEST_READ bytes by the caller, who needs it cut too.

    A bot has no type of device: that it pretends to be a telephone says what pages it asks for.
    """
    text = CONTROL_CHARACTERS.sub(" ", user_agent.decode("utf-8", "replace"))
    found = resolver()(text, Domain.ALL)
    spider = found.device is not None and found.device.family == _SPIDER and not _NO_SPIDER.search(text)
    bot = spider or _BOT.search(text) is not None
    return Agent(
        browser=_family(found.user_agent.family if found.user_agent else ""),
        os=_family(found.os.family if found.os else ""),
        device="" if bot else _device(text),
        bot=bot,
    )


def _family(name: str) -> str:
    """Some of ua-parser's rules take the name from the header itself, where it can be anything."""
    return "" if name == "Other" else name.strip()[:_LONGEST_FAMILY]


def _device(text: str) -> str:
    return next((device for device, words in _DEVICES if words.search(text)), "")
