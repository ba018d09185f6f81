"""Texts as the tensors of a text classifier, the same at training and serving: tokens, and hashed pieces of words."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelhub.recipes.text.vocabularies import BEGIN, PADDING, WORD, Vocabulary, folded

MAX_TOKENS = 256
# Of longer texts only the beginning is looked at; 256 tokens rarely have more letters.
MAX_CHARACTERS = 4096
BUCKETS = (8, 16, 32, 64, 128, MAX_TOKENS)
# So many hashed pieces go with a token of padding: more put a text into the next bucket, or are cut off.
FEATURES_A_TOKEN = 16
# An English text has a token for about so many bytes; for choosing a bucket without encoding.
BYTES_A_TOKEN = 4
SHORTEST, LONGEST = 3, 5

Numbers = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One text: its tokens, the first being that of the beginning, and the numbers of its hashed pieces."""

    tokens: Numbers
    features: Numbers
    truncated: bool

    @property
    def bucket(self) -> int:
        return bucket(max(len(self.tokens), -(-len(self.features) // FEATURES_A_TOKEN)))


@dataclass(frozen=True, slots=True)
class Encoder:
    """Encodes with this vocabulary; hashed pieces get numbers from 1 to `features` - 1, none where it is 0."""

    vocabulary: Vocabulary
    features: int

    def encode(self, text: str) -> Encoded:
        """Of a text without end the first 4,096 characters, 256 tokens and 4,096 pieces are used."""
        start = text[:MAX_CHARACTERS]
        tokens = [BEGIN, *self.vocabulary.encode(start)]
        pieces = hashed(start, self.features) if self.features else np.zeros(0, np.int32)
        truncated = len(text) > len(start) or len(tokens) > MAX_TOKENS
        kept = pieces[: MAX_TOKENS * FEATURES_A_TOKEN]
        return Encoded(np.array(tokens[:MAX_TOKENS], np.int32), kept, truncated)

    def tensors(self, rows: Sequence[Encoded]) -> dict[str, Numbers]:
        """The model's inputs: `tokens` (rows, bucket) and `features` (rows, 16 × bucket), filled up with 0.

        The bucket is that of the longest row.
        """
        length = max((row.bucket for row in rows), default=BUCKETS[0])
        found = {"tokens": np.full((len(rows), length), PADDING, np.int32)}
        if self.features:
            found["features"] = np.full((len(rows), length * FEATURES_A_TOKEN), PADDING, np.int32)
        for place, row in enumerate(rows):
            found["tokens"][place, : len(row.tokens)] = row.tokens
            if self.features:
                found["features"][place, : len(row.features)] = row.features
        return found


def bucket(tokens: int) -> int:
    """The smallest bucket that holds so many tokens, or the largest."""
    return next((size for size in BUCKETS if tokens <= size), MAX_TOKENS)


def likely_bucket(size: int) -> int:
    """The bucket of a text of so many bytes, by its length alone."""
    return bucket(1 + size // BYTES_A_TOKEN)


def hashed(text: str, size: int) -> Numbers:
    """The numbers, 1 to `size` - 1, of what the text is made of, each once, ascending.

    Words, pairs of words, pieces of 3 to 5 letters of words with their ends marked (Bojanowski et al., Enriching Word
    Vectors with Subword Information, 2017), and the shapes of words as they were written: `Xxxx`, `dddd`.
    """
    found = {zlib.crc32(piece.encode()) % (size - 1) + 1 for piece in _pieces(text)}
    return np.array(sorted(found), np.int32)


def _pieces(text: str) -> Iterator[str]:
    before = ""
    for word in WORD.findall(folded(text)):
        yield "w" + word
        yield f"p{before} {word}"
        before = word
        marked = f"<{word}>"
        for length in range(SHORTEST, LONGEST + 1):
            for at in range(len(marked) - length + 1):
                yield marked[at : at + length]
    for word in WORD.findall(text):
        yield "s" + _shape(word)


def _shape(word: str) -> str:
    """Letters by their case and digits, of at most 12 characters: `Xxxx`, `dddd`; other signs are themselves."""
    return "".join(
        "d" if one.isdigit() else "X" if one.isupper() else "x" if one.isalpha() else one for one in word[:12]
    )
