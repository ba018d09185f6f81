"""One value of a row, as a client or a data set has it, and as a tensor of the signature takes it."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from inference.engines.base import Tensor
from modelhub.signatures import BYTES, TensorSpec
from tenants.errors import Invalid


def cell(value: Any, spec: TensorSpec) -> Any:
    """A value for this input: none is NaN among fractions and the empty text among texts.

    A number may be a text, and true and false are 1 and 0 among fractions.
    """
    if isinstance(value, str | bytes | list | dict):
        return value
    if spec.dtype == BYTES:
        return "" if value is None else json.dumps(value)
    if spec.numpy.kind == "f" and (value is None or isinstance(value, bool)):
        return math.nan if value is None else float(value)
    return value


def column(values: Sequence[Any], spec: TensorSpec) -> Tensor:
    """Values as a tensor of shape (rows,). Raises Invalid for what the input does not take."""
    found = np.empty(len(values), spec.numpy)
    for row, value in enumerate(cell(value, spec) for value in values):
        if spec.dtype != BYTES and not isinstance(value, bool | int | float):
            raise Invalid(f"{spec.name}: got {'nothing' if value is None else 'a text'}; the model takes {spec.dtype}.")
        try:
            found[row] = value.encode() if isinstance(value, str) else value
        except (OverflowError, ValueError) as error:
            raise Invalid(f"{spec.name}: got {value}; the model takes {spec.dtype}.") from error
    return found
