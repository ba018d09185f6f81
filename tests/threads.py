"""Work done by several threads at once, each with a database connection of its own."""

import threading
from collections.abc import Callable

from django.db import connection


def in_threads(work: Callable[[int], object], count: int, *, seconds: float = 60) -> None:
    """Runs `work(0)`, `work(1)`… at once; one that fails or does not end in time fails the test."""
    failures: list[BaseException] = []
    together = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            together.wait(10)
            work(number)
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
    assert not any(thread.is_alive() for thread in threads), "a thread did not end in time"
    assert not failures, failures
