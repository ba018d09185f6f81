"""Weights that one training leaves for the next: written with a version, and loaded where all of them fit."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from modelhub.trainer.convert import KERAS
from modelhub.trainer.task import Failure

WEIGHTS = "weights.npz"


def write(model: Any, folder: Path) -> str:
    """Writes the model's weights, in their order; gives the file's name."""
    arrays: dict[str, Any] = {f"{number}": weight.numpy() for number, weight in enumerate(model.weights)}
    np.savez(folder / WEIGHTS, **arrays)
    return WEIGHTS


def load(model: Any, *, version: str, files: Mapping[str, str]) -> None:
    """Gives the model the weights of a version of the same recipe; raises Failure in words unless all of them fit."""
    arrays = _arrays(version, files)
    if len(arrays) != len(model.weights):
        raise Failure(
            f"The training cannot begin with the weights of {version}: it has {len(arrays)} arrays of them, and this "
            f"model has {len(model.weights)}. The same parameters of the model are needed, and as many classes."
        )
    for weight, array in zip(model.weights, arrays, strict=True):
        if tuple(weight.shape) != array.shape:
            raise Failure(
                f"The training cannot begin with the weights of {version}: {weight.path} has the shape "
                f"{_shown(array.shape)} there and {_shown(weight.shape)} here. The same parameters of the model are "
                "needed, and as many classes."
            )
    for weight, array in zip(model.weights, arrays, strict=True):
        weight.assign(array)


def _arrays(version: str, files: Mapping[str, str]) -> list[NDArray[Any]]:
    if WEIGHTS in files:
        with np.load(files[WEIGHTS], allow_pickle=False) as arrays:
            return [arrays[f"{number}"] for number in range(len(arrays.files))]
    if KERAS in files:
        with tempfile.TemporaryDirectory() as folder:
            # Keras tells a model's format by its file's name; a stored file is named by its sha256.
            named = Path(folder) / KERAS
            named.symlink_to(Path(files[KERAS]).resolve())
            before = keras.saving.load_model(named, compile=False)
        return [weight.numpy() for weight in before.weights]
    raise Failure(f"The training cannot begin with {version}: its weights were not kept.")


def _shown(shape: Any) -> str:
    return " × ".join(map(str, shape)) or "of one number"
