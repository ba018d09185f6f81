"""How long a training still takes, and when it has to stop for its version to be there in time."""

import time
from dataclasses import dataclass

# Exporting, beside what starting took: three converters at once start TensorFlow anew and then have work to do. Six to
# eight times is usual; a machine that others begin to use meanwhile takes longer, and what is left over is not billed.
STARTS = 15.0
USUAL_STARTS = 7.0
# Over the validation rows: the last epoch's, the evaluation's, and one with each file that was exported.
PASSES = 5.0


@dataclass(slots=True)
class Pace:
    """`ends` is in monotonic seconds, if there is an end; `start_seconds` is what the process took before training."""

    start_seconds: float
    validation_rows: int
    ends: float | None = None
    _first: float = 0.0
    _rows: int = 0
    _steps: int = 0
    _validating: float = 0.0
    _validation_seconds: float = 0.0
    _late: bool = False

    def after_step(self, rows: int, left: tuple[int, int]) -> int:
        """Seconds until the version is there, most likely, with so many steps and validations left.

        The first step traces graphs: it is no measure.
        """
        now = time.monotonic()
        if not self._first:
            self._first = now
            return self._guess(0.0, left, self.start_seconds)
        self._rows += rows
        self._steps += 1
        trained = now - self._first - self._validating
        tail = STARTS * self.start_seconds + PASSES * self._pass_seconds(trained / max(self._rows, 1))
        self._late = self.ends is not None and now + tail > self.ends
        return self._guess(trained / self._steps, left, self._pass_seconds(trained / max(self._rows, 1)))

    def validated(self, seconds: float) -> None:
        """A pass over the validation rows took so long."""
        self._validation_seconds = seconds
        if self._first:
            self._validating += seconds

    def is_late(self) -> bool:
        """Whether training has to stop where it is."""
        return self._late

    @property
    def seconds_to_deadline(self) -> float:
        """How long there is until the end, if there is one."""
        return 0.0 if self.ends is None else self.ends - time.monotonic()

    def _pass_seconds(self, seconds_a_row: float) -> float:
        """What a pass over the validation rows takes at most: alone it is less than a step, decoding may be more."""
        return max(self._validation_seconds, self.validation_rows * seconds_a_row)

    def _guess(self, step_seconds: float, left: tuple[int, int], pass_seconds: float) -> int:
        steps, validations = left
        rest = USUAL_STARTS * self.start_seconds + 3 * pass_seconds
        return round(steps * step_seconds + validations * pass_seconds + rest)
