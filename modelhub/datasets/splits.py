"""Which items are trained on and which validate: as given, by ratio and seed, or by group."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from modelhub.datasets.archives import BadItem
from modelhub.datasets.manifests import Item

TRAIN, VALIDATION = SPLITS = ("train", "validation")
# What folders and columns call them.
NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "dev": VALIDATION,
}
GIVEN, RATIO, GROUP = WAYS = ("given", "ratio", "group")
# Strata of fewer are divided together: each alone would have none or too many in validation.
LEAST_STRATUM = 10
MAX_GROUPS = 1_000_000
MAX_GROUP_NAME = 200


@dataclass(frozen=True, slots=True)
class Split:
    """How a data set is divided: `by` is a way, or empty for as given if the upload says so, else by ratio.

    `validation` is the share of the validation split; `column` names the one that says the split or the group, where
    it is not called so.
    """

    by: str = ""
    validation: float = 0.1
    seed: int = 0
    column: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Indivisible(Exception):
    """The items cannot be divided this way; the text says why."""


def named(text: str) -> str | None:
    """The split of this name: `train` or `validation`; none if it names neither."""
    return NAMES.get(text.strip().casefold())


def group_name(value: object) -> str:
    """The name of a group as a file spells it; empty for none. Raises BadItem if it is too long."""
    name = "" if value is None else str(value).strip()
    if len(name) > MAX_GROUP_NAME:
        raise BadItem(f"Its group has a name of {len(name):,} characters; the limit is {MAX_GROUP_NAME}.")
    return name


def rank(*, seed: int, content: bytes, name: str) -> int:
    """Where an item stands in the order of drawing, 63 bits: same contents side by side, and else at random."""
    head = hashlib.blake2b(b"%d\0" % seed + content, digest_size=5).digest()
    tail = hashlib.blake2b(b"%d\0" % seed + name.encode(), digest_size=3).digest()
    return int.from_bytes(head + tail) >> 1


def quota(count: int, *, validation: float) -> int:
    """How many of a stratum of `count` validate: their share, at least one, and two are left to train on."""
    return max(0, min(count - 2, max(1, round(count * validation))))


def cut(wanted: int, *, begin: int, end: int, count: int) -> int:
    """How many of a stratum of `count` in order validate, so that no content stands on both sides.

    The content at the place where `wanted` ends reaches from `begin` to `end`: it is taken whole or not at all, as far
    as that neither doubles nor halves the split; a content that is larger than that is cut.
    """
    if end <= min(2 * wanted, count - 2):
        return end
    return begin if 2 * begin >= wanted else wanted


def validation_groups(sizes: Mapping[str, int], *, split: Split) -> set[str]:
    """The groups that validate: drawn until their items are as near to the share as whole groups come.

    What has no group is trained on. Raises Indivisible for fewer than two groups.
    """
    drawn = sorted((g for g in sizes if g), key=lambda g: (rank(seed=split.seed, content=g.encode(), name=g), g))
    if len(drawn) < 2:
        raise Indivisible(f"Splitting by group needs at least two groups; there {_are(len(drawn))}.")
    wanted, taken = sum(sizes.values()) * split.validation, 0
    chosen: set[str] = set()
    for group in drawn[:-1]:
        if chosen and abs(taken + sizes[group] - wanted) >= abs(taken - wanted):
            continue
        chosen.add(group)
        taken += sizes[group]
    return chosen


def strata(counts: Mapping[str, int], *, least: int = 0) -> dict[str, str]:
    """For each stratum the one that it is divided with: itself, or "" together with the others that are too small."""
    return {name: name if count >= least else "" for name, count in counts.items()}


def assigned(
    items: Sequence[Item], *, split: Split, stratum: Callable[[Item], str], least_stratum: int = 0
) -> list[Item]:
    """The items, each with its split by ratio or by group; the order in which they come does not matter."""
    if split.by == GROUP:
        chosen = validation_groups(Counter(item.group for item in items), split=split)
        return [replace(item, split=VALIDATION if item.group in chosen else TRAIN) for item in items]
    together = strata(Counter(map(stratum, items)), least=least_stratum)
    by_stratum: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_stratum[together[stratum(item)]].append(item)
    result: list[Item] = []
    for some in by_stratum.values():
        some.sort(key=lambda i: (rank(seed=split.seed, content=i.sha256.encode(), name=i.name), i.name))
        validating = _cut(some, quota(len(some), validation=split.validation))
        result += [replace(item, split=VALIDATION) for item in some[:validating]]
        result += [replace(item, split=TRAIN) for item in some[validating:]]
    return result


def _cut(items: Sequence[Item], wanted: int) -> int:
    if not wanted:
        return 0
    last = items[wanted - 1].sha256
    same = [place for place, item in enumerate(items) if item.sha256 == last]
    return cut(wanted, begin=same[0], end=same[-1] + 1, count=len(items))


def way(split: Split, *, given: bool) -> Split:
    """The way that is taken: raises Indivisible where a given split is asked for and there is none."""
    if split.by == GIVEN and not given:
        raise Indivisible(
            "The split is to be as given, and the upload gives none: expected folders or files called train and "
            "validation, or a column of that name."
        )
    return split if split.by else replace(split, by=GIVEN if given else RATIO)


def _are(count: int) -> str:
    return "is one" if count == 1 else "are none"
