"""Its pages."""

import asyncio
import os
from collections.abc import Iterator

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path, re_path


def page(request: HttpRequest, **kwargs: object) -> HttpResponse:
    return HttpResponse(f"{os.getpid()}")


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("a bug of the host")


def parts() -> Iterator[bytes]:
    yield b"one "
    yield b"two"


def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(parts())


async def waiting(request: HttpRequest) -> HttpResponse:
    await asyncio.Event().wait()
    return HttpResponse()


def forking(request: HttpRequest, name: str) -> HttpResponse:
    """Answers with what a child process answers to the page of this name, which is the child's request, too."""
    from django.test import Client

    read, write = os.pipe()
    if not os.fork():
        os.write(write, Client().get(f"/page/{name}").content)
        os._exit(0)
    os.close(write)
    with open(read) as answer:
        return HttpResponse(answer.read())


urlpatterns = [
    path("", page),
    path("page/<str:name>", page),
    path("api/orders/", page),
    path("broken", broken),
    path("stream", stream),
    path("waiting", waiting),
    path("forking/<str:name>", forking),
    re_path(r"^number/(?P<number>[0-9]+)$", page),
]
