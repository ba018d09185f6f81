"""A split of pictures as one array of bytes on disk: decoded once, by the code that serving uses."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelhub.trainer.task import Failure, Item, Reporter
from tenants.errors import Refusal

THREADS = 4
AT_A_TIME = 64

Read = Callable[[bytes], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Split:
    """Rows as uint8, (items, height, width, 3), in a file; labels as int64, the index of each row's class."""

    rows: np.memmap[tuple[int, ...], np.dtype[np.uint8]]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


def decoded(
    items: Sequence[Item],
    *,
    split: str,
    classes: Sequence[str],
    read: Read,
    shape: tuple[int, ...],
    file: Path,
    report: Reporter,
) -> Split:
    """Decodes every item by `read`, which gives `shape`, into `file`; one that cannot be is named in the log, left out.

    Raises Failure if a class has no picture left.
    """
    index = {name: number for number, name in enumerate(classes)}
    kept: list[int] = []
    with file.open("wb") as array, ThreadPoolExecutor(THREADS) as threads:
        for start in range(0, len(items), AT_A_TIME):
            some = items[start : start + AT_A_TIME]
            for item, row in zip(some, threads.map(lambda item: _row(item, read), some), strict=True):
                if isinstance(row, str):
                    report.log(f"Left out {item.name}: {row}")
                else:
                    array.write(row)
                    kept.append(index[item.target])
            report.progress("decoding", start + len(some), len(items), split=split)
    seen = set(kept)
    missing = [name for number, name in enumerate(classes) if number not in seen]
    if missing:
        raise Failure(
            f"The {split} split has no picture of {' and '.join(missing)} that can be read: {len(kept)} of its "
            f"{len(items)} files are readable. The log names each file that was left out."
        )
    return Split(rows=np.memmap(file, np.uint8, "r", shape=(len(kept), *shape)), labels=np.array(kept, np.int64))


def _row(item: Item, read: Read) -> bytes | str:
    """The item's bytes, or why there are none."""
    try:
        return read(Path(item.file).read_bytes()).tobytes()
    except (Refusal, OSError) as error:
        return str(error)
