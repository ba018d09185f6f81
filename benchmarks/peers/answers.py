"""Reads the scores out of an answer, so that every server is checked before it is timed."""

import math
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np

JSON_LENGTH = "inference-header-content-length"
TOLERANCE = 1e-2

Scores = list[float]
Read = Callable[[httpx.Response], Scores]


class WrongAnswer(Exception):
    """Says what came and what was expected."""


def check(answer: httpx.Response, read: Read, expected: Scores) -> None:
    """Raises WrongAnswer unless the scores are the engine's own."""
    if answer.status_code != 200:
        raise WrongAnswer(f"got {answer.status_code} {answer.text[:300]!r}")
    try:
        found = read(answer)
    except (LookupError, TypeError, ValueError) as error:
        raise WrongAnswer(f"cannot read {answer.text[:300]!r}: {error!r}") from error
    near = len(found) == len(expected) and all(
        math.isclose(one, other, abs_tol=TOLERANCE) for one, other in zip(found, expected, strict=True)
    )
    if not near:
        raise WrongAnswer(f"got the scores {found}; the engine alone gives {expected}")


def flat(*path: str | int) -> Read:
    """All numbers under the path of a JSON answer."""

    def read(answer: httpx.Response) -> Scores:
        found: Any = answer.json()
        for step in path:
            found = found[step]
        return [float(one) for one in np.ravel(found)]

    return read


def binary(answer: httpx.Response) -> Scores:
    """The one tensor of FP32 that follows the JSON head, by the Open Inference Protocol's binary extension."""
    return [float(one) for one in np.frombuffer(answer.content[int(answer.headers[JSON_LENGTH]) :], np.float32)]
