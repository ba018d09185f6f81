"""The server: `python -m aiaas_site.server --port 8000 [--role all|plane|web] [--processes N]`."""

import argparse
import logging
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from django.conf import settings

from aiaas_site import compiled
from aiaas_site.env import BASE_DIR
from aiaas_site.supervisor import Program, Supervisor
from inference import neighbours

if TYPE_CHECKING:
    from aiaas_site.asgi import Door

ROLES = ("all", "plane", "web")
STOP_SECONDS = 20
BACKLOG = 2048
SHARE = "--share-port"
# Each connection is an open file, of which many systems allow a program 1,024 unless it asks for more.
OPEN_FILES = 65_536
# Whoever needs the interpreter while another thread has it waits so long: at Python's own 5 ms the engine threads of a
# busy server stand still most of the time.
SWITCH_SECONDS = 0.5e-3
logger = logging.getLogger("aiaas_site.server")


def main() -> None:
    """Serves until SIGINT or SIGTERM; then answers what is in flight, ships the spool, and ends."""
    parser = argparse.ArgumentParser(description="Serves the site.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--role", choices=ROLES, default="all", help="which plane to serve (default: both)")
    parser.add_argument("--processes", type=int, default=1, help="how many processes share the port (default: 1)")
    parser.add_argument(SHARE, action="store_true", help="let other processes listen on the same port")
    arguments = parser.parse_args()
    if arguments.processes > 1:
        _check_free(arguments.host, arguments.port)
        _supervise(arguments.processes)
    else:
        _serve(role=arguments.role, host=arguments.host, port=arguments.port, share=arguments.share_port)


def _serve(*, role: str, host: str, port: int, share: bool) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        # Uvicorn stops in order and then raises the signal again: being asked to stop is no failure.
        signal.signal(number, lambda *_: sys.exit(0))
    sys.setswitchinterval(SWITCH_SECONDS)
    _allow_open_files()
    made = compiled.take()
    door, served = config(role=role, host=host, port=port)
    server = Server(served, door)
    door.events.stopping = lambda: server.should_exit
    if door.plane is not None:
        logger.info("the prediction plane runs %s", made)
    server.run(sockets=[_shared_listener(host, port)] if share else None)


def _allow_open_files() -> None:
    """Takes as many open files as the system lets this process have, up to OPEN_FILES."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(most, OPEN_FILES)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


class Server(uvicorn.Server):
    """Uvicorn's server, which says that it leaves before it does, so that balancers send nothing more."""

    def __init__(self, config: uvicorn.Config, door: "Door") -> None:
        super().__init__(config)
        self._door = door
        self._leave: Callable[[], None] | None = None
        self._leave_at = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Asked once, it goes on for STOP_NOTICE_SECONDS, not ready any more; asked again, it stops at once."""
        self._door.leaving = True
        if self._leave is not None or not settings.STOP_NOTICE_SECONDS:
            super().handle_exit(sig, frame)
        else:
            self._leave = partial(super().handle_exit, sig, frame)
            self._leave_at = time.monotonic() + settings.STOP_NOTICE_SECONDS

    async def on_tick(self, counter: int) -> bool:
        if self._leave is not None and time.monotonic() >= self._leave_at:
            self._leave()
        return await super().on_tick(counter)


def _supervise(processes: int) -> None:
    """Runs the same command in so many processes, which share the port and, between them, the limits of this host."""
    command = [argument for argument in sys.argv[1:] if argument != SHARE]
    at = next(i for i, argument in enumerate(command) if argument.startswith("--processes"))
    del command[at : at + (1 if "=" in command[at] else 2)]
    run = (sys.executable, "-m", "aiaas_site.server", *command, SHARE)
    with tempfile.TemporaryFile() as shared:
        shared.truncate(neighbours.shared_bytes(processes))
        everyone = {"INFERENCE_PROCESSES": str(processes), "INFERENCE_NEIGHBOURS": str(shared.fileno())}
        supervisor = Supervisor(
            [Program(f"server {number + 1}", run, {"INFERENCE_PROCESS": str(number)}) for number in range(processes)],
            say=lambda text: print(text, file=sys.stderr, flush=True),  # noqa: T201
            environment=os.environ | everyone,
            folder=BASE_DIR,
            held=(shared.fileno(),),
        )
        asked = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: asked.set())
        supervisor.start()
        supervisor.watch()
        asked.wait()
        supervisor.stop()


def config(*, role: str, host: str, port: int) -> "tuple[Door, uvicorn.Config]":
    """Uvicorn's configuration for a role: one ASGI application, and the plane's short way beside it."""
    from aiaas_site import asgi
    from inference.plane.http import for_plane

    door = asgi.door(role)
    return door, uvicorn.Config(
        door,
        host=host,
        port=port,
        loop="uvloop",
        http=for_plane(door.plane),
        ws="none",
        lifespan="on",
        access_log=False,
        proxy_headers=False,
        log_level="warning",
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=STOP_SECONDS,
    )


def _check_free(host: str, port: int) -> None:
    """Ends the program with words if another one has the port, which processes that share it would not notice."""
    try:
        _bound(host, port).close()
    except OSError as error:
        sys.exit(f"Port {port} of {host} cannot be had: {error.strerror}.")


def _shared_listener(host: str, port: int) -> socket.socket:
    """A socket of this process alone at a port of several: the kernel deals new connections out among them.

    It does not listen yet: Uvicorn lets it when the process is ready, and until then others are dealt everything.
    """
    return _bound(host, port, socket.SO_REUSEPORT)


def _bound(host: str, port: int, *options: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        for option in (socket.SO_REUSEADDR, *options):
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


if __name__ == "__main__":
    main()
