"""The rows of a table's split as the model takes them, on disk: memory does not grow with the data set."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelhub.recipes.rows import Row
from modelhub.recipes.tabular.columns import Encoder, Layout
from modelhub.recipes.tabular.targets import Target
from modelhub.trainer.task import Reporter

CHUNK = 1000
MOST_NAMED = 100


@dataclass(frozen=True, slots=True)
class Split:
    """The model's inputs, each of shape (rows, columns), and the rows' targets, float64 (rows,)."""

    tensors: Mapping[str, NDArray[Any]]
    targets: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.targets)

    def rows(self, places: NDArray[np.int64] | slice) -> dict[str, NDArray[Any]]:
        return {name: np.array(tensor[places]) for name, tensor in self.tensors.items()}


def split(
    rows: Iterable[Row], *, name: str, total: int, layout: Layout, target: Target, folder: Path, report: Reporter
) -> Split:
    """Encodes the rows into files of the folder; one without a target that can be learned is named and left out."""
    encoder = Encoder(layout)
    found: list[float] = []
    usable = _usable(rows, target=target, found=found, name=name, report=report)
    files = {tensor: folder / f"{name}.{tensor}" for tensor in _widths(layout)}
    opened = {tensor: path.open("wb") for tensor, path in files.items()}
    while chunk := list(islice(usable, CHUNK)):
        for tensor, values in encoder.encode(layout.columns_of(chunk)).items():
            opened[tensor].write(np.ascontiguousarray(values).data)
        report.progress("encoding", len(found), total, split=name)
    for file in opened.values():
        file.close()
    return Split(
        tensors={
            tensor: _mapped(files[tensor], (len(found), width), dtype)
            for tensor, (width, dtype) in _widths(layout).items()
        },
        targets=np.array(found),
    )


def _widths(layout: Layout) -> dict[str, tuple[int, Any]]:
    widths: dict[str, tuple[int, Any]] = {
        "numbers": (len(layout.numbers), np.float32),
        "categories": (len(layout.categories), np.int32),
    }
    return {name: width for name, width in widths.items() if width[0]}


def _mapped(path: Path, shape: tuple[int, int], dtype: Any) -> NDArray[Any]:
    return np.memmap(path, dtype, "r", shape=shape) if shape[0] else np.empty(shape, dtype)


def _usable(
    rows: Iterable[Row], *, target: Target, found: list[float], name: str, report: Reporter
) -> Iterator[Mapping[str, Any]]:
    """The values of the rows whose target can be learned, which is appended to `found`."""
    left_out = 0
    for row in rows:
        number = target.number(row["values"].get(target.name))
        if number is None:
            left_out += 1
            if left_out <= MOST_NAMED:
                report.log(f"Left out {row['name']}: {_problem(row['values'].get(target.name), target)}")
            continue
        found.append(number)
        yield row["values"]
    if left_out > MOST_NAMED:
        report.log(f"Left out {left_out} rows of the {name} split in all.")


def _problem(value: Any, target: Target) -> str:
    if value in (None, ""):
        return f"it has no value of the target {target.name}."
    expected = "one of those in the rows to learn from" if target.labels else "a number"
    return f"its {target.name} is {value!r:.60}; expected {expected}."
