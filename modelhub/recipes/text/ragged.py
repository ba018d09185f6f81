"""Rows of numbers of different lengths, on disk: memory does not grow with the data set."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int32]


class Ragged:
    """Rows of int32, one after another in a file of the training's folder; written once, then read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ends = [0]
        self._numbers = np.empty(0, np.int32)

    @contextmanager
    def writing(self) -> Iterator["Writer"]:
        """Appends rows; they can be read when it ends."""
        with self._path.open("wb") as file:
            yield Writer(file, self._ends)
        if self._ends[-1]:
            # As a plain array: slices of a memory map are slow to make.
            self._numbers = np.asarray(np.memmap(self._path, np.int32, "r"))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, row: int) -> Numbers:
        return self._numbers[self._ends[row] : self._ends[row + 1]]


class Writer:
    """The end of a file that rows are appended to."""

    def __init__(self, file: BinaryIO, ends: list[int]) -> None:
        self._file = file
        self._ends = ends

    def append(self, row: Numbers) -> None:
        self._file.write(np.ascontiguousarray(row, np.int32).data)
        self._ends.append(self._ends[-1] + len(row))
