"""What an evaluation finds out: of a version's answers to rows whose truths are known, over all and group by group."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from modelhub import evaluation
from modelhub.recipes.base import Manifest
from modelhub.recipes.learning import Tensors

MAX_GROUPS = 50
MAX_MISTAKES = 12
MAX_TEXT = 500
# What of a group's metrics is left out: with many groups and classes it would be most of the document.
LONG = ("confusion_matrix", "classes", "speakers", "signature")
# Names by which the recipes and their customers call the same thing.
ALIASES = {"speaker": "group", "group": "speaker"}


class Assessor(Protocol):
    """The part of a recipe that measures answers."""

    def assess(self, outputs: Tensors, truths: Sequence[Any], *, manifest: Manifest) -> dict[str, Any]: ...


@dataclass(slots=True)
class Answers:
    """Rows as far as they were answered: `outputs` are the signature's, each (rows, ...)."""

    names: list[str] = field(default_factory=list)
    truths: list[Any] = field(default_factory=list)
    slices: list[Mapping[str, str]] = field(default_factory=list)
    outputs: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)


def assessed(answers: Answers, *, recipe: Assessor, manifest: Manifest, slices: Sequence[str]) -> dict[str, Any]:
    """Metrics over all rows, by slice, calibration and thresholds where there are classes; ready to be JSON."""
    scores, truths, labels = _classified(answers, manifest)
    found: dict[str, Any] = {
        "rows": len(answers),
        "metrics": recipe.assess(answers.outputs, answers.truths, manifest=manifest),
        "slices": {name: _sliced(answers, name, recipe, manifest) for name in slices},
        "calibration": None,
        "thresholds": None,
    }
    if scores is not None:
        found["calibration"] = evaluation.calibration(scores=scores, truths=truths)
        if len(labels) == 2:
            found["thresholds"] = evaluation.thresholds(scores=scores[:, 1], truths=truths, labels=labels)
    plain: dict[str, Any] = plain_json(found)
    return plain


def mistakes(answers: Answers, *, manifest: Manifest) -> list[dict[str, Any]]:
    """The rows that the version got most wrong, the worst first: `row`, `name`, `truth`, `answer`, and how wrong."""
    scores, truths, labels = _classified(answers, manifest)
    if scores is not None:
        found = _of_classes(answers, scores, truths, labels, manifest)
    elif (texts := _texts(answers)) is not None:
        found = _of_texts(answers, texts)
    else:
        found = _of_numbers(answers, manifest)
    plain: list[dict[str, Any]] = plain_json(found)
    return plain


def plain_json(value: Any) -> Any:
    """The value with numpy's scalars as Python's, and what is no finite number as null."""
    if isinstance(value, Mapping):
        return {str(name): plain_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(one) for one in value]
    if isinstance(value, np.ndarray):
        return plain_json(value.tolist())
    if isinstance(value, np.generic):
        return plain_json(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _classified(
    answers: Answers, manifest: Manifest
) -> tuple[NDArray[np.float64] | None, NDArray[np.int64], list[str]]:
    """The probabilities (rows, classes) that some output holds, the true classes, and all labels; none without any.

    A true label that the version does not know is a class of its own that it never answers.
    """
    labels = [str(label) for label in manifest.get("labels") or ()]
    scores = _probabilities(answers, len(labels)) if len(labels) > 1 and len(answers) else None
    if scores is None:
        return None, np.zeros(0, np.int64), labels
    truths = [_label(truth, labels, manifest) for truth in answers.truths]
    every = [*labels, *sorted(set(truths) - set(labels))]
    places = {label: place for place, label in enumerate(every)}
    wide = np.pad(scores, ((0, 0), (0, len(every) - len(labels))))
    return wide, np.array([places[truth] for truth in truths], np.int64), every


def _probabilities(answers: Answers, classes: int) -> NDArray[np.float64] | None:
    for tensor in answers.outputs.values():
        if tensor.dtype.kind == "f" and tensor.shape == (len(answers), classes):
            return tensor.astype(np.float64)
    for tensor in answers.outputs.values():
        if classes == 2 and tensor.dtype.kind == "f" and tensor.shape in ((len(answers), 1), (len(answers),)):
            return evaluation.two_columns(tensor)
    return None


def _label(truth: Any, labels: Sequence[str], manifest: Manifest) -> str:
    """A true label as the version would call it: recipes say it as a word, a number of a label, or a whole row."""
    is_row = isinstance(truth, Mapping)
    if is_row:
        truth = truth.get(manifest["preprocessing"].get("target"))
    if isinstance(truth, bool | np.bool_):
        return "true" if truth else "false"
    if isinstance(truth, int | np.integer) and not is_row and str(truth) not in labels:
        return labels[int(truth)]
    return "" if truth is None else str(truth)


def _sliced(answers: Answers, name: str, recipe: Assessor, manifest: Manifest) -> dict[str, Any]:
    """The metrics of each group of rows with the same value, the largest groups first."""
    places: dict[str, list[int]] = {}
    for row, values in enumerate(answers.slices):
        value = values.get(name, values.get(ALIASES.get(name, ""), None))
        if value is not None:
            places.setdefault(value, []).append(row)
    largest = sorted(places, key=lambda value: (-len(places[value]), value))[:MAX_GROUPS]
    return {
        "groups": {value: _of_group(answers, places[value], recipe, manifest) for value in sorted(largest)},
        "groups_left_out": len(places) - len(largest),
        "rows_without": len(answers) - sum(map(len, places.values())),
    }


def _of_group(answers: Answers, rows: list[int], recipe: Assessor, manifest: Manifest) -> dict[str, Any]:
    outputs = {name: tensor[rows] for name, tensor in answers.outputs.items()}
    metrics = recipe.assess(outputs, [answers.truths[row] for row in rows], manifest=manifest)
    return {"rows": len(rows)} | {name: value for name, value in metrics.items() if name not in LONG}


def _of_classes(
    answers: Answers, scores: NDArray[np.float64], truths: NDArray[np.int64], labels: Sequence[str], manifest: Manifest
) -> list[dict[str, Any]]:
    told = np.argmax(scores, axis=1)
    threshold = manifest.get("decision", {}).get("threshold")
    if threshold is not None and scores.shape[1] == 2:
        told = (scores[:, 1] >= threshold).astype(np.int64)
    sure = scores[np.arange(len(told)), told]
    wrong = np.flatnonzero(told != truths)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:MAX_MISTAKES]
    return [
        _mistake(answers, int(row), labels[truths[row]], labels[told[row]], confidence=float(sure[row]))
        for row in worst
    ]


def _texts(answers: Answers) -> list[str] | None:
    """The answers that are texts, where the truths are."""
    if not all(isinstance(truth, str) for truth in answers.truths):
        return None
    for tensor in answers.outputs.values():
        if tensor.dtype.kind == "O" and tensor.shape == (len(answers),):
            return [one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in tensor]
    return None


def _of_texts(answers: Answers, texts: Sequence[str]) -> list[dict[str, Any]]:
    errors = [
        evaluation.edits(truth.split(), text.split()).total
        for truth, text in zip(answers.truths, texts, strict=True)
    ]  # fmt: skip
    shares = [count / max(1, len(truth.split())) for count, truth in zip(errors, answers.truths, strict=True)]
    wrong = [row for row, count in enumerate(errors) if count]
    worst = sorted(wrong, key=lambda row: (-shares[row], row))[:MAX_MISTAKES]
    return [_mistake(answers, row, answers.truths[row], texts[row], wrong_words=errors[row]) for row in worst]


def _of_numbers(answers: Answers, manifest: Manifest) -> list[dict[str, Any]]:
    target = manifest.get("preprocessing", {}).get("target")
    truths = [truth.get(target) if isinstance(truth, Mapping) else truth for truth in answers.truths]
    for tensor in answers.outputs.values():
        if tensor.dtype.kind in "fiu" and tensor.size == len(answers):
            told = tensor.reshape(-1)
            off = {
                row: abs(float(told[row]) - truth) for row, truth in enumerate(truths) if isinstance(truth, int | float)
            }
            worst = sorted(off, key=lambda row: (-off[row], row))[:MAX_MISTAKES]
            return [
                _mistake(answers, row, f"{truths[row]:.6g}", f"{told[row]:.6g}", difference=off[row])
                for row in worst
                if off[row]
            ]
    return []


def _mistake(answers: Answers, row: int, truth: str, answer: str, **how_wrong: float) -> dict[str, Any]:
    return {"name": answers.names[row], "truth": truth[:MAX_TEXT], "answer": answer[:MAX_TEXT], **how_wrong}
