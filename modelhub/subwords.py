"""Texts as ids of subwords, by a vocabulary that is learned from texts: byte-pair encoding by sentencepiece.

Sennrich et al. 2016 (arXiv:1508.07909); what no piece of the vocabulary covers is spelled in bytes, so that every text
has ids and comes back whole. The same texts and size give the same file.
"""

import io
from collections.abc import Iterable, Iterator, Sequence

import sentencepiece

PAD, START, END, UNKNOWN = range(4)
SPECIAL = 4
BYTES = 256
COVERAGE = 0.9995


class NoVocabulary(ValueError):
    """No vocabulary can be learned from these texts, or the file is none."""


def learn(texts: Iterable[str], *, size: int) -> bytes:
    """A vocabulary of at most `size` pieces, 260 of them special or bytes, as a file of sentencepiece's."""
    file = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(texts),
            model_writer=file,
            model_type="bpe",
            vocab_size=size,
            hard_vocab_limit=False,
            character_coverage=COVERAGE,
            byte_fallback=True,
            pad_id=PAD,
            bos_id=START,
            eos_id=END,
            unk_id=UNKNOWN,
            max_sentence_length=1 << 16,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise NoVocabulary(f"No vocabulary of {size} pieces can be learned from these texts: {error}") from error
    return file.getvalue()


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Texts without what the trainer takes for the end of a sentence, or for nothing."""
    for text in texts:
        if line := " ".join(text.replace("\0", " ").split()):
            yield line


class Subwords:
    """A vocabulary at work; thread-safe."""

    def __init__(self, file: bytes) -> None:
        self._pieces = sentencepiece.SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(file)
        except RuntimeError as error:
            raise NoVocabulary(f"The file is no vocabulary: {error}") from error

    def __len__(self) -> int:
        return int(self._pieces.GetPieceSize())

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without start and end."""
        found: list[list[int]] = self._pieces.Encode(list(texts), out_type=int, num_threads=1)
        return found

    def texts(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each row of ids; special ones say nothing."""
        found: list[str] = self._pieces.Decode([list(map(int, row)) for row in ids], num_threads=1)
        return found
