"""Who has the processors first: event loops, then engines and trainings, then what nobody waits for."""

import os
import sys

# Above what a process begins with, in the system's own steps of niceness.
ENGINES = 5
BACKGROUND = 10
NICEST = 19


def give_way(steps: int = ENGINES) -> None:
    """Lets the thread that calls, and what it starts, come after others that want the processors.

    An event loop takes a fraction of a millisecond for a request, and an engine keeps a processor for several: with
    equal rights a loop that wakes up waits for the end of the engine's slice. Only Linux has a niceness of each thread.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, 0, min(NICEST, os.getpriority(os.PRIO_PROCESS, 0) + steps))
