"""Connectionist temporal classification: from the probabilities of each step to a text, its likelihood, its times.

Graves et al., "Connectionist temporal classification", ICML 2006; the prefix beam search is that of Hannun et al.,
"First-pass large vocabulary continuous speech recognition using bi-directional recurrent DNNs", 2014.

`log_probabilities` is float32 (steps, labels + 1) everywhere; the blank is the last. A text is a list of labels.
"""

import itertools
import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

LogProbabilities = NDArray[np.float32]

# Labels that are less likely than this at a step do not lengthen a prefix there.
CUTOFF = 1e-3
# What a text that ends where none may end is worth beside one that ends well.
BROKEN_OFF = 1e-6


class Language(Protocol):
    """What texts there may be, and how likely each is; factors multiply the probability of the text so far."""

    def start(self) -> Any:
        """The state before the first label."""
        ...

    def extend(self, state: Any, label: int) -> tuple[Any, float] | None:
        """The state after one more label, and the factor for it; none if no text goes on like this."""
        ...

    def finish(self, state: Any) -> float | None:
        """The factor for ending here; none if no text ends like this."""
        ...


def greedy(log_probabilities: LogProbabilities) -> list[int]:
    """The likeliest label of each step, repetitions and blanks left out."""
    blank = log_probabilities.shape[1] - 1
    path = np.argmax(log_probabilities, axis=1)
    changes = np.ones(len(path), bool)
    changes[1:] = path[1:] != path[:-1]
    return [int(label) for label in path[changes & (path != blank)]]


def beam(
    log_probabilities: LogProbabilities, *, width: int, language: Language | None = None, cutoff: float = CUTOFF
) -> list[int]:
    """The likeliest text, of all its alignments together, among the `width` best prefixes of each step.

    With a language the text's own probability counts too.
    """
    blank = log_probabilities.shape[1] - 1
    root = _Prefix(None, -1, language.start() if language else None)
    root.ends_blank = 1.0
    prefixes = [root]
    for row in np.exp(log_probabilities.astype(np.float64)):
        labels = [int(label) for label in np.flatnonzero(row[:blank] >= cutoff)]
        prefixes = _step(prefixes, row.tolist(), labels, blank, language)
        if len(prefixes) > width:
            prefixes = sorted(prefixes, key=_Prefix.total, reverse=True)[:width]
        _rescale(prefixes)
    return max(prefixes, key=lambda prefix: prefix.total() * _ending(prefix, language)).labels()


class _Prefix:
    """A text so far. Its probability in two parts: of alignments that end in a blank, and in its last label.

    Where there is a language its factors are in both parts.
    """

    __slots__ = ("children", "ends_blank", "ends_label", "label", "next_blank", "next_label", "parent", "state")

    def __init__(self, parent: "_Prefix | None", label: int, state: Any) -> None:
        self.parent, self.label, self.state = parent, label, state
        self.ends_blank = self.ends_label = self.next_blank = self.next_label = 0.0
        self.children: dict[int, tuple[_Prefix, float] | None] = {}

    def total(self) -> float:
        return self.ends_blank + self.ends_label

    def child(self, label: int, language: Language | None) -> "tuple[_Prefix, float] | None":
        """This text with one more label, always the same object, and the language's factor; none if there is none."""
        try:
            return self.children[label]
        except KeyError:
            pass
        found: tuple[_Prefix, float] | None
        if language is None:
            found = _Prefix(self, label, None), 1.0
        else:
            extended = language.extend(self.state, label)
            found = (_Prefix(self, label, extended[0]), extended[1]) if extended else None
        self.children[label] = found
        return found

    def labels(self) -> list[int]:
        found = []
        prefix: _Prefix | None = self
        while prefix is not None and prefix.parent is not None:
            found.append(prefix.label)
            prefix = prefix.parent
        return found[::-1]


def _step(
    prefixes: list[_Prefix], row: list[float], labels: list[int], blank: int, language: Language | None
) -> list[_Prefix]:
    """All prefixes that one more step leads to, with their new probabilities."""
    reached = dict.fromkeys(prefixes)  # in an order that is the same each time
    for prefix in prefixes:
        total = prefix.ends_blank + prefix.ends_label
        prefix.next_blank += total * row[blank]
        if prefix.parent is not None:
            prefix.next_label += prefix.ends_label * row[prefix.label]
        for label in labels:
            found = prefix.child(label, language)
            if found is not None:
                child, factor = found
                # The same label again is a new one only after a blank.
                before = prefix.ends_blank if label == prefix.label else total
                child.next_label += before * row[label] * factor
                reached[child] = None
    for prefix in reached:
        prefix.ends_blank, prefix.ends_label = prefix.next_blank, prefix.next_label
        prefix.next_blank = prefix.next_label = 0.0
    return list(reached)


def _rescale(prefixes: list[_Prefix]) -> None:
    """Keeps the best one's probability at 1, so that long sounds do not come to nothing."""
    most = max(prefix.total() for prefix in prefixes)
    if most > 0:
        for prefix in prefixes:
            prefix.ends_blank /= most
            prefix.ends_label /= most


def _ending(prefix: _Prefix, language: Language | None) -> float:
    if language is None:
        return 1.0
    factor = language.finish(prefix.state)
    return BROKEN_OFF if factor is None else factor


def log_likelihood(log_probabilities: LogProbabilities, labels: list[int]) -> float:
    """The logarithm of the probability of the text: the sum over all its alignments; -inf if there is none."""
    emitted, skips = _lattice(log_probabilities, labels)
    score = np.full(emitted.shape[1], -np.inf)
    score[:2] = emitted[0, :2]
    for row in emitted[1:]:
        before = np.logaddexp(score, _shifted(score, 1))
        score = np.logaddexp(before, np.where(skips, _shifted(score, 2), -np.inf)) + row
    return float(np.logaddexp.reduce(score[-2:]))


def align(log_probabilities: LogProbabilities, labels: list[int]) -> list[tuple[int, int]]:
    """For each label of the text its first step and the one after its last, in the likeliest alignment.

    Raises ValueError if there are too few steps for the text.
    """
    emitted, skips = _lattice(log_probabilities, labels)
    steps, states = emitted.shape
    score = np.full(states, -np.inf)
    score[:2] = emitted[0, :2]
    back = np.zeros((steps, states), np.int8)
    for step in range(1, steps):
        choices = np.stack([score, _shifted(score, 1), np.where(skips, _shifted(score, 2), -np.inf)])
        back[step] = np.argmax(choices, axis=0)
        score = np.max(choices, axis=0) + emitted[step]
    state = states - 1 if states == 1 or score[-1] >= score[-2] else states - 2
    if not math.isfinite(score[state]):
        raise ValueError(f"{len(labels)} labels do not fit into {steps} steps.")
    path = np.empty(steps, np.int64)
    for step in range(steps - 1, -1, -1):
        path[step] = state
        state -= int(back[step, state])
    places = [np.flatnonzero(path == 2 * number + 1) for number in range(len(labels))]
    return [(int(place[0]), int(place[-1]) + 1) for place in places]


def steps_needed(labels: list[int]) -> int:
    """How many steps a text needs at least: one a label, and a blank between equal neighbours."""
    return len(labels) + sum(one == other for one, other in itertools.pairwise(labels))


def _lattice(log_probabilities: LogProbabilities, labels: list[int]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What each state (blank, label, blank, …, blank) emits at each step, and which may leave out the one before."""
    blank = log_probabilities.shape[1] - 1
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    skips = np.zeros(len(states), bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    return log_probabilities[:, states].astype(np.float64), skips


def _shifted(score: NDArray[np.float64], places: int) -> NDArray[np.float64]:
    found = np.full_like(score, -np.inf)
    found[places:] = score[: max(0, len(score) - places)]
    return found
