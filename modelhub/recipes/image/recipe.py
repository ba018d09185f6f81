"""Pictures into classes: the recipe `image-classifier`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modelhub import evaluation, pictures
from modelhub.recipes.base import Interface, Manifest, Parameter
from modelhub.recipes.learning import Example, Learner, Tensors
from modelhub.recipes.schedule import training_parameters
from modelhub.signatures import DYNAMIC, Signature, TensorSpec
from tenants.errors import FieldError, Invalid

if TYPE_CHECKING:
    from modelhub.datasets.manifests import Manifest as Content
    from modelhub.trainer.task import Item, Task

SCALE = np.float32(1 / 255)
THRESHOLD = 0.5
ARCHITECTURES = ("seed-cnn", "convnet")

PARAMETERS = (
    Parameter(
        "architecture",
        "choice",
        "The layers of the model: seed-cnn is small and plain, convnet learns more of few pictures and takes longer.",
        default="seed-cnn",
        choices=ARCHITECTURES,
    ),
    *training_parameters(
        classifier=True,
        epochs=5,
        by_architecture={
            "convnet": {
                "epochs": 80,
                "learning_rate": 0.002,
                "schedule": "cosine",
                "warmup_steps": 100,
                "weight_decay": 0.05,
                "early_stopping": 30,
            }
        },
    ),
)


class ImageClassifier:
    """Tells kinds of pictures apart, two or more."""

    name = "image-classifier"
    title = "Pictures into classes"
    dataset_kind = "image-classification"
    parameters: tuple[Parameter, ...] = PARAMETERS

    def check(self, content: "Content", parameters: Mapping[str, Any]) -> None:
        classes = content.classes
        if len(classes) < 2:
            raise Invalid(
                f"The recipe {self.name} tells two classes or more apart; "
                f"the data set has {len(classes)}: {', '.join(classes)}.",
                errors=(FieldError("dataset", "Expected a data set of two classes or more."),),
            )

    def learner(self, task: "Task") -> Learner:
        from modelhub.recipes.image.learner import PictureLearner

        return PictureLearner(task)

    def served(self, manifest: Manifest) -> "ServedPictures":
        from django.conf import settings

        decision, size = manifest["decision"], manifest["preprocessing"]
        return ServedPictures(
            labels=tuple(manifest["labels"]),
            threshold=decision["threshold"] if decision["kind"] == "binary" else None,
            max_pixels=settings.PICTURE_MAX_PIXELS,
            pixels=(size["height"], size["width"], 3),
        )

    def examples(self, items: Iterable["Item"]) -> Iterator[Example]:
        for item in items:
            slices = {"class": item.target} | ({"group": item.group} if item.group else {})
            yield Example({"image": Path(item.file).read_bytes()}, truth=item.target, name=item.name, slices=slices)

    def assess(self, outputs: Tensors, truths: Sequence[Any], *, manifest: Manifest) -> dict[str, Any]:
        scores, labels = next(iter(outputs.values())), list(manifest["labels"])
        every = [*labels, *sorted(set(truths) - set(labels))]
        indices = np.array([every.index(truth) for truth in truths], np.int64)
        if len(every) == len(labels):
            return assessed(scores, indices, labels=labels, decision=manifest["decision"])
        # A class that the version has no word for is always missed.
        known = evaluation.two_columns(scores) if len(labels) == 2 else scores
        wide = np.pad(known, ((0, 0), (0, len(every) - len(labels))))
        return evaluation.classification(scores=wide, truths=indices, labels=every)


def interface(labels: Sequence[str], *, height: int, width: int) -> Interface:
    """What a version that tells these labels apart takes and gives: one score for two classes, else one for each."""
    two = len(labels) == 2
    return Interface(
        signature=Signature(
            inputs=(TensorSpec("image", "float32", (DYNAMIC, height, width, 3)),),
            outputs=(TensorSpec("score" if two else "scores", "float32", (DYNAMIC, 1 if two else len(labels))),),
        ),
        preprocessing={"kind": "picture", "height": height, "width": width, "scale": "1/255"},
        labels=list(labels),
        decision={"kind": "binary", "threshold": THRESHOLD} if two else {"kind": "largest"},
    )


def pixels_of(raw: bytes, *, height: int, width: int, max_pixels: int) -> pictures.Pixels:
    """A picture's file as uint8 of shape (height, width, 3): at training and at serving."""
    return pictures.resize(pictures.decode(raw, max_pixels=max_pixels), height=height, width=width)


def assessed(
    scores: NDArray[Any], truths: NDArray[np.int64], *, labels: Sequence[str], decision: Mapping[str, Any]
) -> dict[str, Any]:
    """The metrics of the model's outputs, (rows, 1) or (rows, classes), beside the indices of the true labels."""
    if decision["kind"] == "binary":
        return evaluation.binary(
            scores=np.ravel(scores), truths=truths, labels=labels, threshold=decision["threshold"]
        )  # fmt: skip
    return evaluation.classification(scores=scores, truths=truths, labels=labels)


@dataclass(frozen=True, slots=True)
class ServedPictures:
    """A version that answers with a label and how sure it is of it; a threshold decides between two labels."""

    labels: tuple[str, ...]
    threshold: float | None
    max_pixels: int
    pixels: tuple[int, ...]
    content_types: tuple[str, ...] = ("image/jpeg", "image/png", "image/webp")

    def read(self, raw: bytes | NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A JPEG, PNG or WebP file as uint8 of the shape `pixels`, which it may be already.

        Raises pictures.NotAPicture.
        """
        if not isinstance(raw, bytes):
            return raw
        height, width, _ = self.pixels
        return pixels_of(raw, height=height, width=width, max_pixels=self.max_pixels)

    def write(self, found: NDArray[np.uint8], into: NDArray[np.float32]) -> None:
        """Pixels of 0 to 255 into float32 of their shape, 0 to 1.

        In two passes, for one that has to convert its input goes by pieces through a buffer: a quarter slower.
        """
        np.copyto(into, found)
        np.multiply(into, SCALE, out=into)

    def is_quick(self, raw: bytes | NDArray[np.uint8]) -> bool:
        return pictures.is_small(raw) if isinstance(raw, bytes) else True

    def answer(self, outputs: Mapping[str, NDArray[np.generic]]) -> dict[str, Any]:
        if self.threshold is None:
            return self._largest(np.ravel(outputs["scores"]))
        negative, positive = self.labels
        score = float(outputs["score"].item(0))
        scores = {negative: round(1 - score, 6), positive: round(score, 6)}
        label = positive if score >= self.threshold else negative
        return {"label": label, "score": scores[label], "scores": scores}

    def _largest(self, found: NDArray[Any]) -> dict[str, Any]:
        scores = {label: round(float(score), 6) for label, score in zip(self.labels, found, strict=True)}
        label = self.labels[int(np.argmax(found))]
        return {"label": label, "score": scores[label], "scores": scores}
