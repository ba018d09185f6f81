"""Who has the processors first: event loops, then engines and trainings, then what nobody waits for."""

import os
import sys

from django.conf import settings

# Above what a process begins with, in the system's own steps of niceness.
ENGINES = 5
BACKGROUND = 10
NICEST = 19
# What COMPUTE_SCHEDULING may be.
NICE, IDLE = "nice", "idle"


def give_way(steps: int = ENGINES) -> None:
    """Lets the thread that calls, and what it starts, come after others that want the processors.

    An event loop takes a fraction of a millisecond for a request, and an engine keeps a processor for several: with
    equal rights a loop that wakes up waits for the end of the engine's slice. Only Linux has a niceness of each thread.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, 0, min(NICEST, os.getpriority(os.PRIO_PROCESS, 0) + steps))


def engine_gives_way(processor: int | None = None) -> None:
    """The same for a thread of a server that runs or loads models, by the setting COMPUTE_SCHEDULING.

    A nicer engine is still left alone until the clock's next tick, up to 4 ms; one that computes in idle time only is
    not, but has next to nothing where something else keeps the processors busy. It may be given a `processor`, on which
    it stays.
    """
    if settings.COMPUTE_SCHEDULING == IDLE and sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        if processor is not None:
            os.sched_setaffinity(0, {processor})
    else:
        give_way()


def engine_processors(threads: int) -> list[int]:
    """A processor for each engine thread of this process, where they stay; none where the system is to place them.

    Linux does not spread what computes in idle time only: two such threads may share a processor for tens of
    milliseconds while the other is idle. So they are spread here, if the engines of all processes have every processor.
    """
    processes = settings.INFERENCE_PROCESSES
    if settings.COMPUTE_SCHEDULING != IDLE or sys.platform != "linux":
        return []
    allowed = sorted(os.sched_getaffinity(0))
    if threads * processes < len(allowed):
        return []
    first = settings.INFERENCE_PROCESS
    return [allowed[(first + number * processes) % len(allowed)] for number in range(threads)]
