"""Encoder-decoder models in one file: opened with ONNX Runtime, and decoded by beam search with cached keys and values.

A bundle is a stored zip of `encoder.onnx`, `decoder.onnx` and `settings.json`; `recipes/translation_export.py` writes
it and says what the two graphs take and give. All rows of a call go through the decoder together, a token a step, and
a row leaves as soon as its translation is found.
"""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

ENCODER, DECODER, SETTINGS = "encoder.onnx", "decoder.onnx", "settings.json"
# The logarithm of a probability that nothing real has; a sum of a few hundred of them is a finite float32.
IMPOSSIBLE = np.float32(-1e9)

Ids = NDArray[np.int32]
Scores = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a bundle says of itself: its graphs' sizes, and how it searches unless it is told otherwise.

    `pad`, `start` and `end` are ids of tokens. A row of n tokens is given at most `stretch` × n + `spare` tokens, and
    never more than `max_length`. `length_penalty` is α of Wu et al. 2016 (arXiv:1609.08144, eq. 14): 0 prefers short.
    """

    vocabulary: int
    layers: int
    heads: int
    head_width: int
    pad: int
    start: int
    end: int
    beam: int = 4
    max_length: int = 256
    stretch: float = 2.0
    spare: int = 10
    length_penalty: float = 0.6

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def limits(self, lengths: Ids) -> NDArray[np.int64]:
        """How many tokens, the end included, the translations of rows of these lengths may have: int64 (rows,)."""
        return np.minimum((self.stretch * lengths + self.spare).astype(np.int64), self.max_length)


class Translations(NamedTuple):
    """Tokens int32 (rows, longest), `pad` after the end; lengths int32 (rows,), the end not counted.

    Scores float32 (rows,): the logarithm of the translation's probability, its end included, by the length penalty.
    """

    tokens: Ids
    lengths: Ids
    scores: Scores


class NoBundle(ValueError):
    """The file is no bundle of an encoder-decoder model."""


class Bundle:
    """An opened bundle; may be used by several threads at once, each run on so many threads as it was opened with."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        try:
            with zipfile.ZipFile(path) as parts:
                self.settings = _settings(parts.read(SETTINGS))
                self._encoder = _session(parts.read(ENCODER), threads)
                self._decoder = _session(parts.read(DECODER), threads)
        except (zipfile.BadZipFile, KeyError) as error:
            raise NoBundle(f"{path.name} is no bundle of {ENCODER}, {DECODER} and {SETTINGS}: {error}") from error
        self._past = [f"past_{kind}_{n}" for n in range(self.settings.layers) for kind in ("key", "value")]
        self._cross = [one.name for one in self._encoder.get_outputs()]
        self._continued = [one.name for one in self._decoder.get_outputs()]

    def translate(
        self,
        tokens: Ids,
        lengths: Ids,
        *,
        beam: int | None = None,
        max_length: int | None = None,
        length_penalty: float | None = None,
    ) -> Translations:
        """The most probable translations that a beam of this width finds; a beam of 1 is greedy.

        Tokens are int32 (rows, longest), of which each row's first `lengths` (int32 (rows,)) count. A row ends when its
        best ended hypothesis has a score that the best one still open would not have if it ended here, or at its limit;
        one that never ended is given as it is then.
        """
        search = self._search(tokens, lengths, beam, max_length, length_penalty)
        while search.open:
            search.step()
        return search.translations()

    def steps(
        self,
        tokens: Ids,
        lengths: Ids,
        *,
        beam: int | None = None,
        max_length: int | None = None,
        length_penalty: float | None = None,
    ) -> Iterator[Translations]:
        """As `translate`, but after each token what is best so far; the last is what `translate` gives.

        With a beam of more than 1 what was given may be taken back, because another hypothesis has become the best.
        """
        search = self._search(tokens, lengths, beam, max_length, length_penalty)
        while search.open:
            search.step()
            yield search.so_far() if search.open else search.translations()

    def _search(
        self, tokens: Ids, lengths: Ids, beam: int | None, max_length: int | None, length_penalty: float | None
    ) -> "_Search":
        if tokens.ndim != 2 or lengths.shape != tokens.shape[:1]:
            raise ValueError(f"Got tokens {tokens.shape} and lengths {lengths.shape}; expected (rows, n) and (rows,).")
        ours = self.settings
        limits = np.minimum(ours.limits(lengths), max_length or ours.max_length)
        penalty = ours.length_penalty if length_penalty is None else length_penalty
        return _Search(self, tokens, lengths, beam=beam or ours.beam, limits=limits, penalty=penalty)

    def encode(self, tokens: Ids, lengths: Ids) -> dict[str, Any]:
        """The source as the decoder looks at it: OrtValues by name, keys and values of each layer and their mask."""
        given = {"tokens": _value(tokens), "lengths": _value(lengths)}
        return dict(zip(self._cross, self._encoder.run_with_ort_values(self._cross, given), strict=True))

    def no_past(self, hypotheses: int) -> dict[str, Any]:
        """The cache before the first step: OrtValues of no tokens."""
        shape = (hypotheses, self.settings.heads, 0, self.settings.head_width)
        return {name: _value(np.zeros(shape, np.float32)) for name in self._past}

    def decode(
        self, *, tokens: Ids, parents: Ids, scores: Scores, position: int, source: dict[str, Any], past: dict[str, Any]
    ) -> tuple[Scores, NDArray[np.int64], dict[str, Any]]:
        """One step: the best 2 × beam continuations of each row, and the cache to go on with.

        Tokens are int32 (rows, beam), the last of each hypothesis; scores float32 (rows, beam); parents int32
        (rows × beam,) say which place of the cache each hypothesis continues. The continuations are their scores,
        highest first, and hypothesis × vocabulary + token, both (rows, 2 × beam).
        """
        given = {
            "tokens": _value(tokens),
            "parents": _value(parents),
            "scores": _value(scores),
            "position": _value(np.array([position], np.int64)),
            **source,
            **past,
        }
        best, places, *cache = self._decoder.run_with_ort_values(self._continued, given)
        return best.numpy(), places.numpy(), dict(zip(self._past, cache, strict=True))


class _Search:
    """Beam search over the rows that are still open, which stand together in every array.

    Hypothesis h of the row at place r is at r × beam + h wherever hypotheses are in one dimension.
    """

    def __init__(
        self, bundle: Bundle, tokens: Ids, lengths: Ids, *, beam: int, limits: NDArray[np.int64], penalty: float
    ) -> None:
        rows = len(tokens)
        self._bundle = bundle
        self._beam = beam
        self._penalty = penalty
        self._limits = limits
        self._vocabulary = bundle.settings.vocabulary
        self._length = 0
        self._rows = np.arange(rows)
        self._last: Ids = np.full((rows, beam), bundle.settings.start, np.int32)
        self._parents: Ids = np.arange(rows * beam, dtype=np.int32)
        self._scores: Scores = np.full((rows, beam), IMPOSSIBLE)
        self._scores[:, 0] = 0
        longest = int(limits.max(initial=0))
        self._history: Ids = np.zeros((rows * beam, longest), np.int32)
        self._found: Ids = np.full((rows, longest), bundle.settings.pad, np.int32)
        self._found_lengths: Ids = np.zeros(rows, np.int32)
        self._found_scores: Scores = np.full(rows, -np.inf, np.float32)
        self._source = bundle.encode(tokens, lengths) if rows else {}
        self._past = bundle.no_past(rows * beam) if rows else {}

    @property
    def open(self) -> bool:
        return bool(len(self._rows))

    def step(self) -> None:
        """Each open hypothesis is continued by a token; rows that are done leave."""
        scores, places, self._past = self._bundle.decode(
            tokens=self._last,
            parents=self._parents,
            scores=self._scores,
            position=self._length,
            source=self._source,
            past=self._past,
        )
        self._length += 1
        beam = self._beam
        parents, tokens = np.divmod(places, self._vocabulary)
        ended = tokens == self._bundle.settings.end
        if ended[:, :beam].any():
            self._end(scores[:, :beam], parents[:, :beam], ended[:, :beam])
        if ended.any():
            # The open ones first, in their order; at most one of a hypothesis's continuations is its end.
            order = np.argsort(ended, axis=1, kind="stable")[:, :beam]
            scores, parents, tokens = (np.take_along_axis(one, order, 1) for one in (scores, parents, tokens))
        self._go_on(scores[:, :beam], parents[:, :beam], tokens[:, :beam])

    def _end(self, scores: Scores, parents: NDArray[np.int64], ended: Flags) -> None:
        """Keeps the best of what ended here for each row, if nothing better ended before."""
        ending = np.where(ended & (scores > IMPOSSIBLE / 2), scores, -np.inf) / self._divisor()
        best = np.argmax(ending, axis=1)
        at = np.arange(len(best))
        better = ending[at, best] > self._found_scores[self._rows]
        self._keep(at[better], parents[at, best][better], ending[at, best][better], length=self._length - 1)

    def _go_on(self, scores: Scores, parents: NDArray[np.int64], tokens: NDArray[np.int64]) -> None:
        places = np.arange(len(scores))[:, None] * self._beam + parents
        open_scores = scores[:, 0] / self._divisor()
        full = self._length >= self._limits[self._rows]
        done = full | (self._found_scores[self._rows] >= open_scores)
        if done.any():
            never_ended = np.flatnonzero(full & np.isneginf(self._found_scores[self._rows]))
            self._keep(never_ended, parents[never_ended, 0], open_scores[never_ended], length=self._length - 1)
            rows = self._rows[never_ended]
            self._found[rows, self._length - 1] = tokens[never_ended, 0]
            self._found_lengths[rows] = self._length
            stay = ~done
            places, scores, tokens = places[stay], scores[stay], tokens[stay]
            self._leave(stay)
        self._parents = places.ravel().astype(np.int32)
        self._scores = np.ascontiguousarray(scores)
        self._last = tokens.astype(np.int32)
        history = self._history[self._parents]
        if self.open:
            history[:, self._length - 1] = self._last.ravel()
        self._history = history

    def _keep(self, places: NDArray[np.int64], parents: NDArray[np.int64], scores: Scores, *, length: int) -> None:
        """Notes for the rows at these places the first `length` tokens of a hypothesis as the best that was found."""
        rows = self._rows[places]
        self._found[rows] = self._bundle.settings.pad
        self._found[rows, :length] = self._history[places * self._beam + parents, :length]
        self._found_lengths[rows] = length
        self._found_scores[rows] = scores

    def _leave(self, stay: Flags) -> None:
        """Lets go of the sources of the rows that are done; the cache follows by `parents` at the next step."""
        self._rows = self._rows[stay]
        if self.open:
            self._source = {name: _value(value.numpy()[stay]) for name, value in self._source.items()}

    def _divisor(self) -> np.float32:
        return np.float32(((5 + self._length) / 6) ** self._penalty)

    def translations(self) -> Translations:
        longest = int(self._found_lengths.max(initial=0))
        return Translations(self._found[:, :longest], self._found_lengths, self._found_scores)

    def so_far(self) -> Translations:
        """Of rows that are open their best open hypothesis, if none that ended is better."""
        tokens, lengths, scores = self._found.copy(), self._found_lengths.copy(), self._found_scores.copy()
        open_scores = self._scores[:, 0] / self._divisor()
        better = open_scores > scores[self._rows]
        rows = self._rows[better]
        tokens[rows] = self._history[:: self._beam][better]
        tokens[rows, self._length :] = self._bundle.settings.pad
        lengths[rows] = self._length
        scores[rows] = open_scores[better]
        return Translations(tokens[:, : int(lengths.max(initial=0))], lengths, scores)


def _settings(document: bytes) -> Settings:
    """What the bundle's settings say; raises NoBundle that names what is missing."""
    found = json.loads(document)
    known = {one.name for one in fields(Settings)}
    try:
        return Settings(**{name: value for name, value in found.items() if name in known})
    except TypeError as error:
        raise NoBundle(f"{SETTINGS} of the bundle does not say all that it must: {error}") from error


def _session(graph: bytes, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _value(array: NDArray[Any]) -> Any:
    """The array as the runtime holds it: the same memory, which must not be written to any more."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
