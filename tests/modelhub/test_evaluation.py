"""Metrics: against figures worked out by hand, by other libraries, and by formulas that must hold."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from sklearn import metrics as sklearn

from modelhub import evaluation

# A machine that is busy takes its time.
QUICK = settings(max_examples=40, deadline=None)
LABELS = ["bird", "cat", "dog"]
SCORES = np.array(
    [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3], [0.3, 0.3, 0.4], [0.5, 0.4, 0.1], [0.1, 0.1, 0.8]]
)
TRUTHS = np.array([0, 1, 2, 2, 1, 2])
WORDS = st.lists(st.sampled_from(["one", "two", "six"]), max_size=7)


def test_a_classifier_is_counted_class_by_class() -> None:
    found = evaluation.classification(scores=SCORES, truths=TRUTHS, labels=LABELS)
    assert found["rows"] == 6
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["confusion_matrix"] == {
        "labels": LABELS,
        "rows_are": "truth",
        "matrix": [[1, 0, 0], [1, 1, 0], [0, 1, 2]],
    }
    assert found["classes"]["dog"] == {"rows": 3, "precision": 1.0, "recall": pytest.approx(2 / 3), "f1": 0.8}
    assert found["loss"] == pytest.approx(sklearn.log_loss(TRUTHS, SCORES))
    assert found["macro"]["f1"] == pytest.approx(
        sklearn.f1_score(TRUTHS, SCORES.argmax(axis=1), average="macro", zero_division=0)
    )


def test_a_class_without_rows_has_no_recall_and_does_not_count_in_the_macro_means() -> None:
    found = evaluation.classification(scores=SCORES[:2], truths=TRUTHS[:2], labels=LABELS)
    assert found["classes"]["dog"] == {"rows": 0, "precision": None, "recall": None, "f1": None}
    assert found["macro"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0}


def test_no_rows_give_no_figures_rather_than_nan() -> None:
    found = evaluation.classification(scores=np.zeros((0, 3)), truths=np.zeros(0, np.int64), labels=LABELS)
    assert (found["rows"], found["accuracy"], found["loss"]) == (0, None, None)
    assert evaluation.calibration(scores=np.zeros((0, 3)), truths=np.zeros(0, np.int64))["ece"] is None
    assert evaluation.word_error_rate([], [])["word_error_rate"] is None
    assert evaluation.bleu([], [])["bleu"] is None
    assert evaluation.regression(np.zeros(0), np.zeros(0))["r2"] is None


def test_scores_of_another_shape_are_refused_with_both() -> None:
    with pytest.raises(ValueError, match=r"\(6, 3\).*expected \(6, 2\)"):
        evaluation.classification(scores=SCORES, truths=TRUTHS, labels=LABELS[:2])


@QUICK
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 30))
def test_the_share_among_the_likeliest_is_what_scikit_learn_finds(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    scores, truths = random.dirichlet(np.ones(8), rows), random.integers(0, 8, rows)
    found = evaluation.classification(scores=scores, truths=truths, labels=[str(label) for label in range(8)])
    for k in ("3", "5"):
        expected = sklearn.top_k_accuracy_score(truths, scores, k=int(k), labels=range(8))
        assert found["top_k"][k] == pytest.approx(expected)


def test_a_two_class_model_answers_by_its_threshold() -> None:
    found = evaluation.binary(
        scores=np.array([0.2, 0.6, 0.8, 0.4]), truths=np.array([0, 0, 1, 1]), labels=["ham", "spam"], threshold=0.3
    )
    assert found["confusion_matrix"]["matrix"] == [[1, 1], [0, 2]]
    assert found["classes"]["spam"] == {"rows": 2, "precision": pytest.approx(2 / 3), "recall": 1.0, "f1": 0.8}


def test_a_model_that_says_what_it_does_is_calibrated() -> None:
    sure = np.array([0.75] * 4)
    found = evaluation.calibration(scores=evaluation.two_columns(sure), truths=np.array([1, 1, 1, 0]))
    assert found["ece"] == pytest.approx(0.0)
    (filled,) = [one for one in found["bins"] if one["rows"]]
    assert filled == {"from": 0.7, "to": 0.8, "rows": 4, "confidence": pytest.approx(0.75), "accuracy": 0.75}


def test_a_model_that_is_too_sure_is_as_wrong_as_it_is_too_sure() -> None:
    scores = evaluation.two_columns(np.array([1.0, 1.0, 0.0, 0.95]))
    found = evaluation.calibration(scores=scores, truths=np.array([1, 0, 0, 0]))
    assert found["ece"] == pytest.approx((1 + 1 + 1 + 0.95) / 4 - 0.5)
    assert sum(one["rows"] for one in found["bins"]) == 4


@QUICK
@given(
    scores=arrays.arrays(np.float64, st.integers(1, 25), elements=st.sampled_from([0.1, 0.3, 0.5, 0.5001, 0.9])),
    seed=st.integers(0, 1000),
)
def test_no_threshold_has_a_better_f1_than_the_best(scores: NDArray[np.float64], seed: int) -> None:
    truths = np.random.default_rng(seed).integers(0, 2, len(scores))
    found = evaluation.thresholds(scores=scores, truths=truths, labels=["ham", "spam"])
    if not truths.any():
        assert found["best"] is None
        return
    by_hand = [sklearn.f1_score(truths, scores >= at, zero_division=0) for at in set(scores)]
    assert found["best"]["f1"] == pytest.approx(max(by_hand))
    yes = scores >= found["best"]["threshold"]
    assert found["best"]["f1"] == pytest.approx(sklearn.f1_score(truths, yes, zero_division=0))


def test_the_table_of_thresholds_trades_precision_for_recall() -> None:
    scores, truths = np.array([0.1, 0.4, 0.6, 0.9]), np.array([0, 1, 0, 1])
    found = evaluation.thresholds(scores=scores, truths=truths, labels=["ham", "spam"])
    at = {one["threshold"]: one for one in found["table"]}
    assert (found["positive"], len(at)) == ("spam", 19)
    assert at[0.3] == {
        "threshold": 0.3, "precision": pytest.approx(2 / 3), "recall": 1.0, "f1": 0.8, "accuracy": 0.75
    }  # fmt: skip
    assert (at[0.7]["precision"], at[0.7]["recall"]) == (1.0, 0.5)
    assert at[0.95]["precision"] is None


def test_words_that_were_heard_wrong_left_out_or_made_up_are_counted_apart() -> None:
    found = evaluation.word_error_rate(["one two three", "six"], ["one too", "six six"])
    assert found == {
        "rows": 2,
        "words": 4,
        "substitutions": 1,
        "deletions": 1,
        "insertions": 1,
        "word_error_rate": 0.75,
        "character_error_rate": pytest.approx((1 + 6 + 4) / 16),
        "sentence_accuracy": 0.0,
    }


def test_each_speaker_has_a_rate_of_its_own() -> None:
    found = evaluation.word_error_rate(["a b", "a", "c d"], ["a b", "b", "c"], speakers=["eve", "bob", "bob"])
    assert {name: one["word_error_rate"] for name, one in found["speakers"].items()} == {"bob": 2 / 3, "eve": 0.0}
    with pytest.raises(ValueError, match="1 speakers for 2 rows"):
        evaluation.word_error_rate(["a", "b"], ["a", "b"], speakers=["eve"])


def test_nothing_said_and_something_heard_is_all_insertions() -> None:
    found = evaluation.word_error_rate([""], ["hello there"])
    assert (found["insertions"], found["word_error_rate"], found["sentence_accuracy"]) == (2, None, 0.0)


@QUICK
@given(said=WORDS, heard=WORDS)
def test_the_edits_are_the_fewest_and_make_the_one_of_the_other(said: list[str], heard: list[str]) -> None:
    found = evaluation.edits(said, heard)
    assert found.total == _by_the_definition(tuple(said), tuple(heard))
    assert len(said) - found.deletions + found.insertions == len(heard)


@cache
def _by_the_definition(said: tuple[str, ...], heard: tuple[str, ...]) -> int:
    if not said or not heard:
        return len(said) + len(heard)
    if said[0] == heard[0]:
        return _by_the_definition(said[1:], heard[1:])
    shorter: Sequence[tuple[Any, Any]] = [(said[1:], heard), (said, heard[1:]), (said[1:], heard[1:])]
    return 1 + min(_by_the_definition(*one) for one in shorter)


def test_bleu_is_sacrebleus() -> None:
    same = ["the cat sat on the mat today", "a dog ran over the long road"]
    assert evaluation.bleu(same, same)["bleu"] == pytest.approx(100)
    found = evaluation.bleu(same, ["the cat sat on a mat today", "a dog ran over the road"])
    assert 20 < found["bleu"] < 90
    assert found["brevity_penalty"] < 1
    assert "tok:13a" in found["signature"]
    with pytest.raises(ValueError, match="1 hypotheses for 2 references"):
        evaluation.bleu(same, ["x"])


def test_quantities_are_measured_in_their_own_unit() -> None:
    true, told = np.array([1.0, 2.0, 3.0, 6.0]), np.array([1.5, 2.0, 2.0, 7.0])
    found = evaluation.regression(told, true)
    assert found["mae"] == pytest.approx(sklearn.mean_absolute_error(true, told))
    assert found["rmse"] == pytest.approx(sklearn.mean_squared_error(true, told) ** 0.5)
    assert found["r2"] == pytest.approx(sklearn.r2_score(true, told))
    assert found["bias"] == pytest.approx(0.125)
    assert evaluation.regression(told, np.full(4, 2.0))["r2"] is None
