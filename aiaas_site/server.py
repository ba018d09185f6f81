"""The server process: `python -m aiaas_site.server --port 8000 [--role all|plane|web]`."""

import argparse
import signal
import sys

import uvicorn

ROLES = {"all": "application", "plane": "plane", "web": "control"}
STOP_SECONDS = 20


def main() -> None:
    """Serves until SIGINT or SIGTERM; then answers what is in flight, ships the spool, and ends."""
    parser = argparse.ArgumentParser(description="Serves the site.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--role", choices=sorted(ROLES), default="all", help="which plane to serve (default: both)")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Uvicorn stops in order and then raises the signal again: being asked to stop is no failure.
        signal.signal(number, lambda *_: sys.exit(0))
    uvicorn.run(
        f"aiaas_site.asgi:{ROLES[arguments.role]}",
        factory=True,
        host=arguments.host,
        port=arguments.port,
        loop="uvloop",
        http="httptools",
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
