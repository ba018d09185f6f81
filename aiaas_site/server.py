"""The server process: `python -m aiaas_site.server --port 8000 [--role all|plane|web]`."""

import argparse
import signal
import sys

import uvicorn

ROLES = ("all", "plane", "web")
STOP_SECONDS = 20


def main() -> None:
    """Serves until SIGINT or SIGTERM; then answers what is in flight, ships the spool, and ends."""
    parser = argparse.ArgumentParser(description="Serves the site.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--role", choices=ROLES, default="all", help="which plane to serve (default: both)")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Uvicorn stops in order and then raises the signal again: being asked to stop is no failure.
        signal.signal(number, lambda *_: sys.exit(0))
    uvicorn.Server(config(role=arguments.role, host=arguments.host, port=arguments.port)).run()


def config(*, role: str, host: str, port: int) -> uvicorn.Config:
    """Uvicorn's configuration for a role: one ASGI application, and the plane's short way beside it."""
    from aiaas_site import asgi
    from inference.plane.http import for_plane

    door = asgi.door(role)
    return uvicorn.Config(
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
        backlog=2048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=STOP_SECONDS,
    )


if __name__ == "__main__":
    main()
