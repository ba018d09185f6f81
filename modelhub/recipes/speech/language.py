"""What is said in a data set: its alphabet, how its transcripts are written, its words and which follows which."""

import itertools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'"})
# A list of so many words, of which so few were said only once that others are hardly to be expected, is a closed one.
MOST_WORDS = 2_000
MOST_NEW = 0.05

_WORD = -1  # the key, in a node of the tree, of the word that ends there
_BORDER = -1  # the word before the first and after the last


def normalised(text: str) -> str:
    """A transcript as it is learned and compared: lower case, one space between words, no punctuation.

    Apostrophes stay (don't), and so do digits and letters of any script, composed (NFKC).
    """
    plain = unicodedata.normalize("NFKC", text.translate(APOSTROPHES)).lower()
    kept = (
        c if c == "'" or unicodedata.category(c)[0] in "LMN" else " " for c in plain if c.isprintable() or c.isspace()
    )
    return " ".join(word for word in "".join(kept).split() if word.strip("'"))


def alphabet_of(texts: Iterable[str]) -> str:
    """Every character of the texts once, in the order of Unicode; the space first."""
    return "".join(sorted({character for text in texts for character in text} | {" "}))


@dataclass(frozen=True, slots=True)
class Counts:
    """How often which word follows which, in some texts; the word `None` is where they begin and end."""

    words: tuple[str, ...]
    pairs: Mapping[tuple[int, int], int]

    def as_json(self) -> dict[str, Any]:
        return {"words": list(self.words), "pairs": [[*pair, times] for pair, times in sorted(self.pairs.items())]}


def counted(texts: Iterable[str]) -> Counts:
    """The words of the texts, sorted, and their pairs."""
    rows = [text.split() for text in texts]
    words = tuple(sorted({word for row in rows for word in row}))
    number = {word: place for place, word in enumerate(words)}
    pairs: Counter[tuple[int, int]] = Counter()
    for row in rows:
        path = [_BORDER, *(number[word] for word in row), _BORDER]
        pairs.update(itertools.pairwise(path))
    return Counts(words=words, pairs=dict(pairs))


def counts_from_json(document: Mapping[str, Any]) -> Counts:
    return Counts(words=tuple(document["words"]), pairs={(one, other): n for one, other, n in document["pairs"]})


def is_closed(texts: Sequence[str]) -> bool:
    """Whether these texts are of few words, and a word that they do not have is hardly to be expected.

    The share of words that were seen once estimates that of words not yet seen: Good, Biometrika 40, 1953.
    """
    times = Counter(word for text in texts for word in text.split())
    once = sum(1 for n in times.values() if n == 1)
    return len(times) <= MOST_WORDS and once <= MOST_NEW * max(1, times.total())


class Words:
    """Texts of known words: a tree of their letters, and the probability of each after the one before.

    The bigrams are smoothed as Witten and Bell do (IEEE Trans. Information Theory 37, 1991), with the words' own
    frequencies, of which each has one more than was counted. `weight` is the power that these probabilities are raised
    to, `bonus` the factor for each word, that outweighs what every further word costs.
    """

    def __init__(self, counts: Counts, *, alphabet: str, weight: float, bonus: float) -> None:
        self._space = alphabet.index(" ")
        self._weight, self._bonus = weight, bonus
        self._pairs = counts.pairs
        self._times: Counter[int] = Counter()
        self._before: Counter[int] = Counter()
        self._followers: Counter[int] = Counter()
        for (one, other), times in counts.pairs.items():
            self._times[other] += times
            self._before[one] += times
            self._followers[one] += 1
        self._all = self._times.total() + len(counts.words) + 1
        self._tree: dict[int, Any] = {}
        for number, word in enumerate(counts.words):
            node = self._tree
            for character in word:
                node = node.setdefault(alphabet.index(character), {})
            node[_WORD] = number

    def start(self) -> tuple[dict[int, Any], int]:
        return self._tree, _BORDER

    def extend(self, state: tuple[dict[int, Any], int], label: int) -> tuple[tuple[dict[int, Any], int], float] | None:
        node, before = state
        if label == self._space:
            word = node.get(_WORD)
            return None if word is None else ((self._tree, word), self._factor(before, word) * self._bonus)
        onward = node.get(label)
        return None if onward is None else ((onward, before), 1.0)

    def finish(self, state: tuple[dict[int, Any], int]) -> float | None:
        node, before = state
        if node is self._tree and before == _BORDER:
            return self._factor(_BORDER, _BORDER)
        word = node.get(_WORD)
        return None if word is None else self._factor(before, word) * self._bonus * self._factor(word, _BORDER)

    def probability(self, before: int, word: int) -> float:
        """Of the word after the one before; -1 is where a text begins and ends."""
        alone = (self._times[word] + 1) / self._all
        seen, kinds = self._before[before], self._followers[before]
        return (self._pairs.get((before, word), 0) + kinds * alone) / (seen + kinds) if seen else alone

    def _factor(self, before: int, word: int) -> float:
        return float(self.probability(before, word) ** self._weight)
