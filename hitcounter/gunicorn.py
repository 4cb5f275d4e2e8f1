"""How gunicorn serves the project; `manage.py serve` adds where and with how many workers.

The master has none of the project's settings, nor Django: workers, which it makes of itself, would have them as they
were when it began, and could not be given others (hitcounter/rolling.py).
"""

import gc
import os
import signal
import socket
import sys
from types import FrameType
from typing import Any

from gunicorn.workers import gasgi

from hitcounter import leave, multiprocess, rolling
from hitcounter.logs import MASTER_LOG_FORMAT, speak_alike
from hitcounter.protocol import PatientProtocol

#: Of each connection, in bytes; the kernel takes twice as much. So much does gunicorn-h1c keep of a request that comes
#: before gunicorn has put the one before it away; when there is more, the connection is closed without an answer.
RECEIVE_BUFFER = 32_768
#: So that what a client takes is seen soon (hitcounter/protocol.py): of the megabytes that the kernel chooses, much has
#: to be taken before there is room again.
SEND_BUFFER = 131_072
GARBAGE_THRESHOLD = 20_000  # container objects made and not yet freed; Python's own is 700

#: Asked here, before gunicorn handles signals.
HANGUP_ENDS = rolling.hangup_ends()

worker_class = "asgi"
asgi_loop = "uvloop"
asgi_lifespan = "on"
http_parser = "auto"  # the one in C where it could be installed, else the one in Python
keepalive = 5
graceful_timeout = 30
# Paths up to this length get our own 414 in JSON; beyond it gunicorn's parser refuses the request line (414).
limit_request_line = 8190
# Beyond these it refuses the headers (431).
limit_request_fields = 100
limit_request_field_size = 8190
loglevel = "warning"
control_socket_disable = True


def on_starting(server: Any) -> None:
    """Keep the workers' metrics in one place, and say what there is to say as the service does.

    Requests are not logged: gunicorn's lines would have addresses, queries and user agents.
    """
    server.metrics = multiprocess.Directory()
    server.listeners = leave.Listeners()
    # From `manage.py serve`; workers, which are forked from here, go on with it.
    speak_alike(server.log.error_log, os.environ.get(MASTER_LOG_FORMAT, "text"))


def on_exit(server: Any) -> None:
    server.metrics.remove()


def pre_fork(server: Any, worker: Any) -> None:
    worker.place = multiprocess.free_place(other.place for other in server.WORKERS.values())
    server.listeners.add(worker.place)  # it has the socket from the fork on
    worker.listeners = server.listeners
    rolling.prepare(worker)


def worker_exit(server: Any, worker: Any) -> None:
    worker.listeners.remove(worker.place)


def child_exit(server: Any, worker: Any) -> None:
    server.listeners.remove(worker.place)  # one that was killed could not itself
    multiprocess.leave_place(server.metrics.path, worker.place)


def when_ready(server: Any) -> None:
    """Make Ctrl-C the graceful stop that SIGTERM is: gunicorn's own answer to it drops the requests under way.

    So is a terminal that is closed; without one, SIGHUP rolls the workers. And bound what connections hold at once.
    """

    def stop_gracefully(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGINT, stop_gracefully)
    rolling.roll_on_hangup(server)
    leave.end_together(server)
    if HANGUP_ENDS:
        signal.signal(signal.SIGHUP, stop_gracefully)
    for listener in server.LISTENERS:  # the connections that it accepts have what it has
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)


def post_fork(server: Any, worker: Any) -> None:
    """Hold a stop back until the event loop runs: whatever is told to stop before would never hear of it.

    The worker's handlers are set before the application is loaded, but the loop listens only when it runs; the master
    would wait for its whole grace time.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    vars(gasgi)["ASGIProtocol"] = PatientProtocol  # there is no setting for it
    multiprocess.take_place(server.metrics.path, worker.place)
    rolling.forget_project()


def post_worker_init(worker: Any) -> None:
    """Leave what a terminal sends to every process to the master; keep the collector out of the way.

    And have a stop end the live page's streams, which end by themselves as little as the server ends them: it would
    wait for its whole grace time before the application heard of it.
    """

    def end_streams() -> None:
        events = sys.modules.get("counters.dashboard.events")
        if events:  # who has never been asked for a page has not loaded them
            events.feed.close()

    async def take_leave() -> None:
        try:
            await leave.take_leave(worker, end_streams)
        finally:
            end_streams()  # whatever went wrong
            worker.handle_exit_signal()

    def stop() -> None:
        if not worker.leaving:
            worker.leaving = True
            worker.leave = worker.loop.create_task(take_leave())

    worker.leaving = False
    worker.loop.add_signal_handler(signal.SIGTERM, stop)
    worker.loop.call_soon(signal.pthread_sigmask, signal.SIG_UNBLOCK, {signal.SIGTERM})
    worker.loop.remove_signal_handler(signal.SIGINT)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    worker.told_ready = worker.loop.create_task(rolling.tell_when_ready(worker))
    # What was imported stays: without it the garbage collector looks at all of Django again and again, which takes
    # tens of milliseconds each time and is what a 99th percentile then shows (docs/adr/0003).
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
