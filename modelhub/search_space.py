"""What a search tries: the combinations of a grid, or values drawn at random."""

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelhub.models import SearchMethod
from modelhub.recipes.base import Parameter
from tenants.errors import FieldError, Invalid

EXPECTED = 'a list of values, or {"from": number, "to": number, "log": true or false}'
# Drawing again what was drawn before: with fewer different ones than asked for it would never end.
MAX_DRAWS_EACH = 50

Point = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Values:
    """Each of these; of a random search, one of them."""

    values: tuple[Any, ...]

    def drawn(self, random: random.Random) -> Any:
        return random.choice(self.values)


@dataclass(frozen=True, slots=True)
class Range:
    """Any number from the one to the other; evenly, or (`log`) evenly by its order of magnitude."""

    least: float
    most: float
    log: bool
    whole: bool

    def drawn(self, random: random.Random) -> Any:
        if self.log:
            value = math.exp(random.uniform(math.log(self.least), math.log(self.most)))
        else:
            value = random.uniform(self.least, self.most)
        # Rounding errors do not leave the range.
        value = min(max(value, self.least), self.most)
        return round(value) if self.whole else float(f"{value:.6g}")


def points(
    *, space: Mapping[str, Any], method: str, jobs: int | None, seed: int, parameters: Sequence[Parameter], most: int
) -> list[Point]:
    """The values of each training, at most `most` of them; the same for the same seed.

    Raises Invalid in words if there are more, or if the space is none of this recipe's.
    """
    sides = _sides(space, parameters)
    if method == SearchMethod.GRID:
        return _grid(sides, jobs, most)
    if jobs is None or not 1 <= jobs <= most:
        raise _refused("jobs", f"Got {jobs}; expected from 1 to {most} trainings.")
    return _drawn(sides, jobs, random.Random(seed))


def _sides(space: Mapping[str, Any], parameters: Sequence[Parameter]) -> dict[str, Values | Range]:
    known = {parameter.name: parameter for parameter in parameters}
    if not space:
        raise _refused("space", f"It is empty; expected for some of {', '.join(known)} {EXPECTED}.")
    wrong = [
        FieldError(f"space.{name}", f"There is no such parameter; expected some of {', '.join(known)}.")
        for name in space
        if name not in known
    ]
    if wrong:
        raise Invalid("; ".join(f"{e.field}: {e.message}" for e in wrong), errors=tuple(wrong))
    return {name: _side(known[name], given) for name, given in sorted(space.items())}


def _side(parameter: Parameter, given: Any) -> Values | Range:
    field = f"space.{parameter.name}"
    if isinstance(given, list) and given:
        for value in given:
            if not parameter.accepts(value):
                raise _refused(field, f"Got {str(value)[:60]!r}; expected {parameter.expected}.")
        return Values(tuple(given))
    if not (isinstance(given, dict) and {"from", "to"} <= given.keys() <= {"from", "to", "log"}):
        raise _refused(field, f"Expected {EXPECTED}.")
    if parameter.kind not in ("integer", "number"):
        raise _refused(field, f"Only numbers have a range; expected a list of values: {parameter.expected}.")
    return _range(parameter, field, given)


def _range(parameter: Parameter, field: str, given: Mapping[str, Any]) -> Range:
    least, most, log = given["from"], given["to"], given.get("log", False)
    for bound in (least, most):
        if not parameter.accepts(bound) or bound is None:
            raise _refused(field, f"Got {str(bound)[:60]!r} as a bound; expected {parameter.expected}.")
    if not isinstance(log, bool) or least > most or (log and least <= 0):
        raise _refused(field, "Expected `from` to be at most `to`, `log` true or false, and with it a `from` above 0.")
    return Range(float(least), float(most), log, whole=parameter.kind == "integer")


def _grid(sides: Mapping[str, Values | Range], jobs: int | None, most: int) -> list[Point]:
    for name, side in sides.items():
        if isinstance(side, Range):
            raise _refused(f"space.{name}", "A grid goes through values; expected a list of them, not a range.")
    lists = [side.values for side in sides.values() if isinstance(side, Values)]
    count = math.prod(len(values) for values in lists)
    allowed = most if jobs is None else min(jobs, most)
    if count > allowed:
        raise _refused("space", f"The grid has {count} combinations; at most {allowed} trainings may be tried.")
    return [dict(zip(sides, values, strict=True)) for values in itertools.product(*lists)]


def _drawn(sides: Mapping[str, Values | Range], jobs: int, random: random.Random) -> list[Point]:
    found: list[Point] = []
    for _ in range(jobs * MAX_DRAWS_EACH):
        point = {name: side.drawn(random) for name, side in sides.items()}
        if point not in found:
            found.append(point)
        if len(found) == jobs:
            return found
    raise _refused("space", f"Only {len(found)} different trainings could be drawn from it, and {jobs} were asked for.")


def _refused(field: str, words: str) -> Invalid:
    return Invalid(f"{field}: {words}", errors=(FieldError(field, words),))
