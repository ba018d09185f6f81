"""How far transcripts are from what was said: word and character error rates."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Edits:
    """The fewest changes that make one sequence of another."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def __add__(self, other: "Edits") -> "Edits":
        return Edits(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    @property
    def total(self) -> int:
        return self.substitutions + self.deletions + self.insertions


def word_error_rate(
    references: Sequence[str], hypotheses: Sequence[str], *, speakers: Sequence[str] | None = None
) -> dict[str, Any]:
    """The word error rate of hypotheses, one for each reference; words are what spaces part, compared as they are.

    It is (substitutions + deletions + insertions) / words of the references, so that it can be more than 1; likewise
    the character error rate, over characters. `sentence_accuracy` is the share of rows without an error. With
    `speakers`, one a row, the same for each speaker in `speakers`. A rate of nothing is null. Raises ValueError if the
    numbers of rows differ.
    """
    rows = list(zip(references, hypotheses, strict=True))
    words = [edits(said.split(), heard.split()) for said, heard in rows]
    characters = [edits(_spaced(said), _spaced(heard)) for said, heard in rows]
    counts = [(len(said.split()), len(_spaced(said))) for said in references]
    found = _summed(words, characters, counts)
    if speakers is not None:
        found["speakers"] = {
            speaker: _summed(
                [words[row] for row in places], [characters[row] for row in places], [counts[row] for row in places]
            )
            for speaker, places in _places(speakers, len(rows)).items()
        }
    return found


def edits(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> Edits:
    """The fewest substitutions, deletions and insertions from the one to the other (Levenshtein 1966).

    Takes len(reference) × len(hypothesis) steps and as much memory, four bytes each.
    """
    if list(reference) == list(hypothesis):
        return Edits()
    known: dict[Hashable, int] = {}
    said, heard = (
        np.array([known.setdefault(token, len(known)) for token in tokens], np.int32)
        for tokens in (reference, hypothesis)
    )
    return _traced(_distances(said, heard), said, heard)


def _distances(said: NDArray[np.int32], heard: NDArray[np.int32]) -> NDArray[np.int32]:
    """(reference + 1, hypothesis + 1): the distance between each pair of beginnings."""
    columns = np.arange(len(heard) + 1, dtype=np.int32)
    table = np.empty((len(said) + 1, len(heard) + 1), np.int32)
    table[0] = columns
    for row, token in enumerate(said, 1):
        above = table[row - 1]
        best = above + 1
        best[1:] = np.minimum(best[1:], above[:-1] + (heard != token))
        # An insertion costs one a column: a running minimum of what is left when the column's number is taken off.
        table[row] = np.minimum.accumulate(best - columns) + columns
    return table


def _traced(table: NDArray[np.int32], said: NDArray[np.int32], heard: NDArray[np.int32]) -> Edits:
    row, column = len(said), len(heard)
    substitutions = deletions = insertions = 0
    while row or column:
        here = table[row, column]
        different = int(said[row - 1] != heard[column - 1]) if row and column else 0
        if row and column and here == table[row - 1, column - 1] + different:
            substitutions += different
            row, column = row - 1, column - 1
        elif row and here == table[row - 1, column] + 1:
            deletions, row = deletions + 1, row - 1
        else:
            insertions, column = insertions + 1, column - 1
    return Edits(substitutions, deletions, insertions)


def _summed(words: list[Edits], characters: list[Edits], counts: list[tuple[int, int]]) -> dict[str, Any]:
    total = sum(words, Edits())
    said = sum(count for count, _ in counts)
    spelt = sum(count for _, count in counts)
    return {
        "rows": len(words),
        "words": said,
        "substitutions": total.substitutions,
        "deletions": total.deletions,
        "insertions": total.insertions,
        "word_error_rate": total.total / said if said else None,
        "character_error_rate": sum(characters, Edits()).total / spelt if spelt else None,
        "sentence_accuracy": sum(not one.total for one in words) / len(words) if words else None,
    }


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _places(groups: Sequence[str], rows: int) -> dict[str, list[int]]:
    if len(groups) != rows:
        raise ValueError(f"There are {len(groups)} speakers for {rows} rows; expected one a row.")
    places: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        places.setdefault(group, []).append(row)
    return dict(sorted(places.items()))
