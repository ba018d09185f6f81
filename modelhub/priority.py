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


def engine_gives_way() -> None:
    """The same for a thread of a server that runs or loads models, by the setting COMPUTE_SCHEDULING.

    A nicer engine is still left alone until the clock's next tick, up to 4 ms; one that computes in idle time only is
    not, but has next to nothing where something else keeps the processors busy.
    """
    if settings.COMPUTE_SCHEDULING == IDLE and sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        give_way()
