"""Vocabularies: texts into the numbers of their words, or of the pieces of words that sentencepiece finds."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

PADDING, UNKNOWN, BEGIN = 0, 1, 2
RESERVED = 3
WORD = re.compile(r"\w+|[^\w\s]")
# Words that stand once in the training texts teach the unknown word.
FEWEST = 2
FILES = {"subword": "vocabulary.model", "word": "vocabulary.json"}


class Vocabulary(Protocol):
    """Numbers below `size` for texts; 0 is padding, 1 what is not known, 2 the beginning of a text."""

    size: int

    def encode(self, text: str) -> list[int]:
        """The text's numbers, without beginning or padding; none for an empty text."""
        ...


class Words:
    """Whole words and single signs, small and capital letters being one."""

    def __init__(self, words: Sequence[str]) -> None:
        self._numbers = {word: RESERVED + place for place, word in enumerate(words)}
        self.size = RESERVED + len(words)

    def encode(self, text: str) -> list[int]:
        return [self._numbers.get(word, UNKNOWN) for word in WORD.findall(folded(text))]


class Subwords:
    """The pieces of a sentencepiece model (Kudo, Subword Regularization, 2018)."""

    def __init__(self, model: bytes) -> None:
        from sentencepiece import SentencePieceProcessor

        self._processor: Any = SentencePieceProcessor(model_proto=model)
        self.size = int(self._processor.get_piece_size())

    def encode(self, text: str) -> list[int]:
        found: list[int] = self._processor.encode(text, out_type=int)
        return found


def folded(text: str) -> str:
    """The text in Unicode's compatible form, without the difference of small and capital letters."""
    return unicodedata.normalize("NFKC", text).casefold()


def learn(texts: Sequence[str], *, kind: str, size: int, file: Path) -> None:
    """Writes a vocabulary of these texts, of at most `size` entries, or as many as there are letters."""
    if kind == "word":
        counts = Counter(word for text in texts for word in WORD.findall(folded(text)))
        # Of equally frequent words the earlier in the alphabet: the order of the texts does not matter.
        words = sorted((word for word, times in counts.items() if times >= FEWEST), key=lambda w: (-counts[w], w))
        file.write_text(json.dumps(words[: size - RESERVED], ensure_ascii=False), encoding="utf-8")
    else:
        file.write_bytes(_sentencepiece(texts, size))


def load(path: Path, *, kind: str) -> Vocabulary:
    """The vocabulary of this kind that `learn` wrote."""
    return Words(json.loads(path.read_text(encoding="utf-8"))) if kind == "word" else Subwords(path.read_bytes())


def _sentencepiece(texts: Sequence[str], size: int) -> bytes:
    from sentencepiece import SentencePieceTrainer

    letters = len({letter for text in texts for letter in folded(text)})
    model = BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(_lines(texts)),
        model_writer=model,
        model_type="unigram",
        vocab_size=max(size, letters + RESERVED + 1),
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc_cf",
        pad_id=PADDING,
        unk_id=UNKNOWN,
        bos_id=BEGIN,
        eos_id=-1,
        max_sentence_length=1 << 16,
        num_threads=1,
        minloglevel=3,
    )
    return model.getvalue()


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Texts without what sentencepiece takes for the end of a sentence, or for nothing."""
    for text in texts:
        line = " ".join(text.replace("\0", " ").split())
        if line:
            yield line
