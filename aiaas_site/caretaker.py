"""Stops the embedded PostgreSQL when those who hold standard input's other end are gone, however they ended.

PostgreSQL detaches itself, so `up` killed by SIGKILL would leave it behind for ever. Its children hold the pipe too:
what they still write while they stop arrives.
"""

import signal
import sys


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    from aiaas_site import embedded_database

    embedded_database.stop_if_unused()


if __name__ == "__main__":
    main()
