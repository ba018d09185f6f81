"""Where a training is, as one file: weights, optimizer, place, history, the best weights; enough to go on elsewhere."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelhub.trainer.task import Failure

Arrays = list[NDArray[Any]]
FORMAT = 1


@dataclass(slots=True)
class Place:
    """How far a training is: in `epoch` (the first is 1), `steps` of it done, with their sums and seconds.

    `history` has the metrics of each epoch before; `best_epoch` is the best of them, 0 if there is none yet.
    """

    epoch: int = 1
    steps: int = 0
    loss_sum: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A place, the model's variables (weights, norms' averages, random state) and the optimizer's, and the best ones.

    `best` is empty where the model's own are the best, and where there are none.
    """

    place: Place
    model: Arrays
    optimizer: Arrays
    best: Arrays


def write(path: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Writes it whole or not at all; gives the file's name, sha256 and size, and the epochs behind it."""
    place = checkpoint.place
    about = {
        "format": FORMAT,
        "place": {name: getattr(place, name) for name in Place.__slots__},
        "counts": {part: len(getattr(checkpoint, part)) for part in PARTS},
    }
    arrays = {
        f"{part}/{number}": array for part in PARTS for number, array in enumerate(getattr(checkpoint, part))
    }  # fmt: skip
    draft = path.with_name(f".{path.name}")
    with draft.open("wb") as file:
        np.savez(file, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
    sha256, size = sha256_of(draft), draft.stat().st_size
    draft.replace(path)
    return {"file": path.name, "sha256": sha256, "size": size, "epochs": len(place.history)}


def read(path: Path) -> Checkpoint:
    """The checkpoint of a file; nothing in it is run."""
    with np.load(path, allow_pickle=False) as arrays:
        about = json.loads(arrays["about"].tobytes())
        if about["format"] != FORMAT:
            raise ValueError(f"the checkpoint has the format {about['format']}; this code reads {FORMAT}")
        parts = {part: [arrays[f"{part}/{n}"] for n in range(about["counts"][part])] for part in PARTS}
    return Checkpoint(place=Place(**about["place"]), **parts)


PARTS = ("model", "optimizer", "best")


def sha256_of(path: Path) -> str:
    """The file's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def taken(variables: Sequence[Any]) -> Arrays:
    """The values of Keras variables, copied."""
    return [variable.numpy().copy() for variable in variables]


def given(arrays: Sequence[NDArray[Any]], variables: Sequence[Any]) -> None:
    """Sets Keras variables to values; raises Failure where they are not of the same shapes."""
    found, expected = [array.shape for array in arrays], [tuple(variable.shape) for variable in variables]
    if found != expected:
        raise Failure(
            f"The checkpoint has {len(found)} arrays of other shapes than the {len(expected)} of the model. "
            "The fault is on our side; please tell us the job's id."
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
