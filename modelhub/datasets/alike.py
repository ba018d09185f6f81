"""Which files of a data set are alike, and what of that stands in both splits."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from modelhub.datasets.manifests import Item
from modelhub.datasets.reports import MAX_EXAMPLES, Leak
from modelhub.datasets.splits import SPLITS, TRAIN, VALIDATION

MAX_DISTANCE = 3
HASH_BITS, BANDS = 64, 4
MAX_BUCKET = 2_000


def same(items: Sequence[Item], *, key: Callable[[Item], str]) -> list[list[Item]]:
    """Items that have the same key, together; an empty key is like no other."""
    by_key: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if value := key(item):
            by_key[value].append(item)
    return [some for some in by_key.values() if len(some) > 1]


def near(items: Sequence[Item], *, key: Callable[[Item], int | None]) -> list[list[Item]]:
    """Items whose 64-bit hashes differ in at most three bits from one another's, chained together.

    Hashes that near have one of their four parts of 16 bits in common, so only those are compared.
    """
    hashed = [(item, value) for item in items if (value := key(item)) is not None]
    leader = list(range(len(hashed)))

    def head(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for bucket in _buckets([value for _, value in hashed]):
        values = np.array([hashed[index][1] for index in bucket], np.uint64)
        for place in range(len(bucket) - 1):
            close = np.bitwise_count(values[place + 1 :] ^ values[place]) <= MAX_DISTANCE
            for other in np.flatnonzero(close):
                leader[head(bucket[place + 1 + other])] = head(bucket[place])
    together: dict[int, list[Item]] = defaultdict(list)
    for index, (item, _) in enumerate(hashed):
        together[head(index)].append(item)
    return [some for some in together.values() if len(some) > 1]


def _buckets(hashes: Sequence[int]) -> Iterator[list[int]]:
    """The places of hashes that have a part in common; of a part that very many have, the first."""
    width = HASH_BITS // BANDS
    for band in range(BANDS):
        found: dict[int, list[int]] = defaultdict(list)
        for index, value in enumerate(hashes):
            found[value >> (band * width) & ((1 << width) - 1)].append(index)
        yield from (bucket[:MAX_BUCKET] for bucket in found.values())


def as_json(groups: Sequence[Sequence[Item]]) -> dict[str, object]:
    """What the report says of items that are alike."""
    across = [pair for some in groups if (pair := _pair(some))]
    return {
        "contents": len(groups),
        "items": sum(map(len, groups)),
        "examples": [[item.name for item in some[:5]] for some in groups[:MAX_EXAMPLES]],
        "across_splits": len(across),
        "across_splits_examples": [list(pair) for pair in across[:MAX_EXAMPLES]],
    }


def leaks(groups: Sequence[Sequence[Item]]) -> list[Leak]:
    """The contents that are in both splits."""
    pairs = [pair for some in groups if (pair := _pair(some))]
    return [Leak(*pair, total=len(pairs)) for pair in pairs]


def groups_across_splits(items: Sequence[Item]) -> list[str]:
    """The groups that are in both splits, sorted."""
    sides: dict[str, set[str]] = defaultdict(set)
    for item in items:
        sides[item.group].add(item.split)
    return sorted(group for group, both in sides.items() if group and len(both) > 1)


def _pair(items: Sequence[Item]) -> tuple[str, str] | None:
    first = {split: next((i.name for i in items if i.split == split), None) for split in SPLITS}
    train, validation = first[TRAIN], first[VALIDATION]
    return (train, validation) if train is not None and validation is not None else None
