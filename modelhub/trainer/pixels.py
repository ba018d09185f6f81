"""A split of a data set as one array of bytes on disk: decoded once, by the code that serving uses."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from modelhub.recipes.base import Recipe
from modelhub.trainer.task import BATCH, Failure, Item, Reporter
from tenants.errors import Refusal


@dataclass(frozen=True, slots=True)
class Split:
    """Rows as uint8, (items, *row_shape), in a file; labels as int64, the index of each row's class."""

    rows: np.memmap[tuple[int, ...], np.dtype[np.uint8]]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, *, shuffle_seed: int | None = None) -> tf.data.Dataset:
        """(rows uint8, labels float32 (rows, 1)) in batches of 32; with a seed shuffled, anew at each repetition."""
        order = tf.data.Dataset.range(len(self))
        if shuffle_seed is not None:
            order = order.shuffle(len(self), seed=shuffle_seed, reshuffle_each_iteration=True)
        labels = tf.constant(self.labels[:, None], tf.float32)
        return order.batch(BATCH).map(
            lambda places: (self._gathered(places), tf.gather(labels, places)), num_parallel_calls=1
        )

    def _gathered(self, places: tf.Tensor) -> tf.Tensor:
        rows = tf.numpy_function(lambda p: self.rows[p], [places], tf.uint8, stateful=False)
        rows.set_shape((None, *self.rows.shape[1:]))
        return rows


def decoded(
    items: Sequence[Item],
    *,
    split: str,
    classes: Sequence[str],
    recipe: Recipe,
    max_pixels: int,
    file: Path,
    report: Reporter,
) -> Split:
    """Decodes and resizes every item into `file`; one that cannot be read is named in the log and left out.

    Raises Failure if a class has no picture left.
    """
    kept: list[int] = []
    with file.open("wb") as array:
        for number, (row, item) in enumerate(zip(_rows(items, recipe, max_pixels), items, strict=True)):
            if isinstance(row, str):
                report.log(f"Left out {item.name}: {row}")
            else:
                array.write(row)
                kept.append(item.label)
            report.progress("decoding", number + 1, len(items), split=split)
    missing = [name for index, name in enumerate(classes) if index not in kept]
    if missing:
        raise Failure(
            f"The {split} split has no picture of {' and '.join(missing)} that can be read: {len(kept)} of its "
            f"{len(items)} files are readable. The log names each file that was left out."
        )
    shape = (len(kept), *recipe.row_shape)
    return Split(rows=np.memmap(file, np.uint8, "r", shape=shape), labels=np.array(kept, np.int64))


def _rows(items: Sequence[Item], recipe: Recipe, max_pixels: int) -> "map[bytes | str]":
    """For each item its bytes, or why there are none; several are decoded at a time."""
    files = tf.data.Dataset.from_tensor_slices([item.file for item in items] or [""]).take(len(items))

    def read(file: bytes) -> tuple[np.bytes_ | bytes, bytes]:
        try:
            return recipe.row(Path(file.decode()).read_bytes(), max_pixels=max_pixels).tobytes(), b""
        except (Refusal, OSError) as error:
            return b"", str(error).encode()

    read_all = files.map(
        lambda file: tf.numpy_function(read, [file], (tf.string, tf.string)), num_parallel_calls=tf.data.AUTOTUNE
    ).prefetch(BATCH)
    return map(_bytes_or_reason, read_all.as_numpy_iterator())


def _bytes_or_reason(read: tuple[bytes, bytes]) -> bytes | str:
    row, reason = read
    return reason.decode() if reason else row
