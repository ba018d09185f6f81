"""Beam search with cached keys and values: what it finds is what a plain search without a cache finds."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from modelhub.recipes.translation import export
from modelhub.recipes.translation.export import EPSILON, Weights
from modelhub.seq2seq import Bundle, NoBundle, Translations
from tests.modelhub.translators import BANNED, END, PAD, SIZES, START, bundle, settings, sources, together, weights

Array = NDArray[np.float64]
LogProbabilities = Callable[[list[int], list[int]], Array]


def plainly(made: Weights) -> LogProbabilities:
    """The same translator by the book in float64, all of a target at once: what the token after it may be."""
    width, heads = SIZES.width, SIZES.heads

    def norm(name: str, x: Array) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
        found: Array = scaled * made[f"{name}.gamma"] + made[f"{name}.beta"]
        return found

    def linear(name: str, x: Array) -> Array:
        found: Array = x @ made[f"{name}.kernel"] + made[f"{name}.bias"]
        return found

    def attention(query: Array, key: Array, value: Array, *, causal: bool) -> Array:
        found = []
        for q, k, v in zip(*(np.split(one, heads, axis=-1) for one in (query, key, value)), strict=True):
            scores = q @ k.T / math.sqrt(SIZES.head_width)
            if causal:
                scores = np.where(np.tri(len(q), dtype=bool), scores, -np.inf)
            likely = np.exp(scores - scores.max(-1, keepdims=True))
            found.append(likely / likely.sum(-1, keepdims=True) @ v)
        return np.concatenate(found, axis=-1)

    def layer(name: str, x: Array, source: Array | None) -> Array:
        together = linear(f"{name}.self.query_key_value", norm(f"{name}.self.norm", x))
        looked = attention(*np.split(together, 3, axis=-1), causal=source is not None)
        x = x + linear(f"{name}.self.output", looked)
        if source is not None:
            key, value = np.split(linear(f"{name}.cross.key_value", source), 2, axis=-1)
            query = linear(f"{name}.cross.query", norm(f"{name}.cross.norm", x))
            x = x + linear(f"{name}.cross.output", attention(query, key, value, causal=False))
        inner = np.maximum(linear(f"{name}.inner.hidden", norm(f"{name}.inner.norm", x)), 0)
        return x + linear(f"{name}.inner.output", inner)

    def embedded(ids: list[int]) -> Array:
        places = export.positions(width)[: len(ids)]
        return made["embedding"][ids].astype(np.float64) * math.sqrt(width) + places

    def log_probabilities(source: list[int], target: list[int]) -> Array:
        encoded = embedded(source)
        for number in range(SIZES.encoder_layers):
            encoded = layer(f"encoder.{number}", encoded, None)
        encoded, states = norm("encoder.norm", encoded), embedded(target)
        for number in range(SIZES.decoder_layers):
            states = layer(f"decoder.{number}", states, encoded)
        logits = norm("decoder.norm", states)[-1] @ made["embedding"].T
        highest = logits.max()
        found: Array = logits - highest - np.log(np.exp(logits - highest).sum())
        return found

    return log_probabilities


def searched(
    likely: LogProbabilities, source: list[int], *, beam: int, limit: int, penalty: float
) -> tuple[list[int], float]:
    """Beam search for one row with nothing kept between the steps: the best tokens and their score."""
    hypotheses: list[tuple[float, list[int]]] = [(0.0, [START])]
    best: tuple[float, list[int]] = (-math.inf, [])
    for length in range(1, limit + 1):
        divisor = ((5 + length) / 6) ** penalty
        continued = [
            (score + float(after), [*tokens, token])
            for score, tokens in hypotheses
            for token, after in enumerate(likely(source, tokens))
            if token not in BANNED
        ]
        continued.sort(key=lambda one: -one[0])
        for score, tokens in continued[:beam]:
            if tokens[-1] == END and score / divisor > best[0]:
                best = (score / divisor, tokens[1:-1])
        hypotheses = [one for one in continued[: 2 * beam] if one[1][-1] != END][:beam]
        if best[0] >= hypotheses[0][0] / divisor:
            return best[1], best[0]
        if length == limit and math.isinf(best[0]):
            return hypotheses[0][1][1:], hypotheses[0][0] / divisor
    return best[1], best[0]


def as_lists(found: Translations) -> list[list[int]]:
    return [row[:length].tolist() for row, length in zip(found.tokens, found.lengths, strict=True)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("beam", [1, 3, 4])
def test_the_search_finds_what_a_plain_one_without_a_cache_finds(tmp_path: Path, seed: int, beam: int) -> None:
    made = weights(seed)
    likely, rows = plainly(made), sources(seed)
    found = bundle(tmp_path, made).translate(*together(rows), beam=beam, max_length=16, length_penalty=0.6)
    limits = np.minimum(settings().limits(np.array([len(row) for row in rows])), 16)
    expected = [
        searched(likely, row, beam=beam, limit=int(limit), penalty=0.6) for row, limit in zip(rows, limits, strict=True)
    ]
    assert as_lists(found) == [tokens for tokens, _ in expected]
    assert found.scores == pytest.approx([score for _, score in expected], abs=1e-4)
    assert np.all(found.tokens[np.arange(found.tokens.shape[1]) >= found.lengths[:, None]] == PAD)


def test_rows_end_at_lengths_of_their_own(tmp_path: Path) -> None:
    """What the test above is worth: among its translations are short, long and unended ones."""
    lengths: set[int] = set()
    for seed in range(4):
        found = bundle(tmp_path, weights(seed)).translate(*together(sources(seed)), beam=4, max_length=12)
        lengths |= set(found.lengths.tolist())
    assert {0, 12} & lengths
    assert len(lengths) >= 4


def test_a_row_is_translated_alone_as_among_others(tmp_path: Path) -> None:
    opened, rows = bundle(tmp_path, weights(1)), sources(1)
    among = opened.translate(*together(rows), max_length=12)
    for number, row in enumerate(rows):
        alone = opened.translate(*together([row]), max_length=12)
        assert as_lists(alone) == as_lists(among)[number : number + 1]
        assert alone.scores[0] == pytest.approx(among.scores[number], abs=1e-4)


@pytest.mark.parametrize("beam", [1, 4])
def test_the_last_step_is_the_translation(tmp_path: Path, beam: int) -> None:
    opened, given = bundle(tmp_path, weights(2)), together(sources(2))
    steps = list(opened.steps(*given, beam=beam, max_length=12))
    found = opened.translate(*given, beam=beam, max_length=12)
    assert len(steps) > 1
    for last, expected in zip(steps[-1], found, strict=True):
        assert np.array_equal(last, expected)
    if beam == 1:
        for step in steps:
            for so_far, row in zip(as_lists(step), as_lists(found), strict=True):
                assert row[: len(so_far)] == so_far


def test_no_rows_have_no_translations(tmp_path: Path) -> None:
    found = bundle(tmp_path, weights(0)).translate(np.zeros((0, 4), np.int32), np.zeros(0, np.int32))
    assert found.tokens.shape == (0, 0)
    assert found.lengths.shape == found.scores.shape == (0,)


def test_lengths_that_do_not_go_with_the_tokens_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tokens \(2, 4\) and lengths \(3,\)"):
        bundle(tmp_path, weights(0)).translate(np.zeros((2, 4), np.int32), np.zeros(3, np.int32))


def test_a_file_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.zip"
    path.write_bytes(b"no zip")
    with pytest.raises(NoBundle, match=r"broken.zip is no bundle of encoder.onnx"):
        Bundle(path)


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        bundle(tmp_path / name, weights(3))
    one, two = ((tmp_path / name / "model.seq2seq.zip").read_bytes() for name in ("one", "two"))
    assert one == two
