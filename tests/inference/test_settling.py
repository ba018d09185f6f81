"""What is settled lets go: no request waits for the garbage collector."""

import gc
import weakref

from inference.plane import settling
from inference.work import Work
from tests.inference.works import work


class Caller:
    """A receipt that holds its work, as an exchange does."""

    def __init__(self, of: Work) -> None:
        self.work, self.told = of, 0
        of.receipt = self

    def settle(self, error: Exception | None) -> None:
        self.told += error is None


def test_work_and_its_receipt_let_go_of_one_another() -> None:
    caller = Caller(work(1))
    gc.disable()
    try:
        settling._let_go([caller.work])
        assert caller.told == 1
        settling._let_go([caller.work])  # and it is told once
        assert caller.told == 1
        gone = weakref.ref(caller)
        del caller
        assert gone() is None
    finally:
        gc.enable()
