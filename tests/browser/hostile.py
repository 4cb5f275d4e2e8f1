"""What others may plant in the counts: markup, marks of direction, what looks like a formula, and what is very long."""

import requests

from tests.service import Service

SCRIPT = "<script>alert(1)</script>"
MARKUP = '"><img src=x onerror=alert(2)>'
BIDI = "\u202egpj.\u2066exe"
LONG = "w" * 200
#: As they are sent; a browser would encode the last as the one before.
PATHS = {
    "script": "/api/%3Cscript%3Ealert(1)%3C/script%3E/",
    "markup": "/api/%22%3E%3Cimg%20src=x%20onerror=alert(2)%3E",
    "bidi": "/api/%E2%80%AEgpj.%E2%81%A6exe",
    "quotes": "/api/'%22`${7*7}{{7*7}}",
    "javascript": "/javascript:alert(3)//%0Aalert(3)",
    "elsewhere": "//evil.example/%2F..%2F",
    "bytes": "/api/%FF%00%C0%AF%ED%A0%80",
    "long": "/api/" + LONG * 10,
    "longest words": "/api/" + "%F0%9F%98%80" * 160,
    "raw": "/api/<script>alert(1)</script>/",
}
#: As values of dimensions, and as what pages are asked.
TEXTS = [SCRIPT, MARKUP, BIDI, "=HYPERLINK(1)", "javascript:alert(3)", LONG]


def plant(service: Service) -> None:
    """A hit of each path with each text in each dimension that takes one."""
    hits = [
        {
            "path": path,
            "n": n + 1,
            "consumer": text,
            "route": f"/{text}",
            "referrer": f"https://{'e' * 60}.example/{text}",
        }
        for n, (path, text) in enumerate(zip(PATHS.values(), TEXTS * 2, strict=False))
    ]
    requests.post(f"{service.url}/hits/", json=hits, timeout=30).raise_for_status()
