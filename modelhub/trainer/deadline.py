"""When a training has to stop for its version to be there in time, guessed from what was measured so far."""

import time
from dataclasses import dataclass

# Converting, beside what starting took: three converters at once start TensorFlow anew and then have work to do. Six to
# eight times is usual; a machine that others begin to use meanwhile takes longer, and what is left over is not billed.
STARTS = 15.0
# Over the validation rows: the last epoch's, the evaluation's, and one with each file that was converted.
PASSES = 5.0


@dataclass(slots=True)
class Deadline:
    """`ends` is in monotonic seconds, and `start_seconds` is how long the process took until it could train."""

    ends: float
    start_seconds: float
    validation_rows: int
    passed: bool = False
    _first: float = 0.0
    _rows: int = 0

    def look(self, rows: int) -> bool:
        """Whether training has to stop here, `rows` further on. The first step traces graphs: it is no measure."""
        now = time.monotonic()
        if not self._first:
            self._first = now
            return False
        self._rows += rows
        pace = (now - self._first) / self._rows
        left_to_do = STARTS * self.start_seconds + PASSES * self.validation_rows * pace
        self.passed = now + left_to_do > self.ends
        return self.passed

    @property
    def seconds_left(self) -> float:
        """How long there is until the end."""
        return self.ends - time.monotonic()
