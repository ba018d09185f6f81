"""Pictures into two classes: the recipe `image-classifier`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelhub import pictures
from modelhub.recipes.base import Interface, Manifest, Parameter
from modelhub.signatures import DYNAMIC, Signature, TensorSpec
from tenants.errors import FieldError, Invalid

HEIGHT = WIDTH = 150
SCALE = np.float32(1 / 255)
THRESHOLD = 0.5

PARAMETERS = (
    Parameter("architecture", "choice", "The layers of the model.", default="seed-cnn", choices=("seed-cnn",)),
    Parameter("epochs", "integer", "How often to go through the training pictures.", 5, minimum=1, maximum=200),
    Parameter(
        "steps_per_epoch",
        "integer",
        "Batches of 32 pictures in an epoch; left out, as many as show each picture once.",
        default=None,
        minimum=1,
        maximum=100_000,
    ),
    Parameter(
        "validation_steps",
        "integer",
        "Batches of 32 pictures to validate on after each epoch; left out, the whole validation split.",
        default=None,
        minimum=1,
        maximum=100_000,
    ),
    Parameter(
        "seed",
        "integer",
        "Fixes the first weights and the order of the pictures: the same seed on the same machine, the same model.",
        default=0,
        minimum=0,
        maximum=2**31 - 1,
    ),
    Parameter("learning_rate", "number", "How far each step of Adam goes.", 0.001, minimum=1e-6, maximum=1.0),
)


class ImageClassifier:
    """Tells two kinds of pictures apart."""

    name = "image-classifier"
    title = "Pictures into two classes"
    dataset_kind = "image-classification"
    parameters: tuple[Parameter, ...] = PARAMETERS
    row_shape: tuple[int, ...] = (HEIGHT, WIDTH, 3)
    scale: np.float32 = SCALE

    def check_classes(self, classes: Sequence[str]) -> None:
        if len(classes) != 2:
            raise Invalid(
                f"The recipe {self.name} tells exactly two classes apart; "
                f"the data set has {len(classes)}: {', '.join(classes[:10])}{'…' if len(classes) > 10 else ''}.",
                errors=(FieldError("dataset", "Expected a data set of two classes."),),
            )

    def row(self, raw: bytes, *, max_pixels: int) -> pictures.Pixels:
        return pictures.resize(pictures.decode(raw, max_pixels=max_pixels), height=HEIGHT, width=WIDTH)

    def interface(self, labels: Sequence[str]) -> Interface:
        return Interface(
            signature=Signature(
                inputs=(TensorSpec("image", "float32", (DYNAMIC, *self.row_shape)),),
                outputs=(TensorSpec("score", "float32", (DYNAMIC, 1)),),
            ),
            preprocessing={"kind": "picture", "height": HEIGHT, "width": WIDTH, "scale": "1/255"},
            labels=list(labels),
            decision={"kind": "binary", "threshold": THRESHOLD},
        )

    def served(self, manifest: Manifest) -> "ServedPictures":
        from django.conf import settings

        negative, positive = manifest["labels"]
        return ServedPictures(
            recipe=self,
            negative=negative,
            positive=positive,
            threshold=manifest["decision"]["threshold"],
            max_pixels=settings.PICTURE_MAX_PIXELS,
        )

    def build(self, parameters: Mapping[str, Any]) -> Any:
        from modelhub.recipes import seed_cnn

        return seed_cnn.build()

    def forward(self, model: Any, parameters: Mapping[str, Any]) -> Callable[[Any], Any]:
        from modelhub.recipes import seed_cnn

        return seed_cnn.forward(model)


@dataclass(frozen=True, slots=True)
class ServedPictures:
    """A version that answers with a label and how sure it is of it."""

    recipe: ImageClassifier
    negative: str
    positive: str
    threshold: float
    max_pixels: int
    content_types: tuple[str, ...] = ("image/jpeg", "image/png", "image/webp")
    pixels: tuple[int, ...] = (HEIGHT, WIDTH, 3)

    def prepare(self, raw: bytes | NDArray[np.uint8], into: NDArray[np.float32]) -> None:
        """A JPEG, PNG or WebP file, or its uint8 pixels of shape (150, 150, 3), into float32 of that shape, 0 to 1.

        Raises pictures.NotAPicture.
        """
        pixels = self.recipe.row(raw, max_pixels=self.max_pixels) if isinstance(raw, bytes) else raw
        np.multiply(pixels, SCALE, out=into)

    def is_quick(self, raw: bytes | NDArray[np.uint8]) -> bool:
        return pictures.is_small(raw) if isinstance(raw, bytes) else True

    def answer(self, outputs: Mapping[str, NDArray[np.generic]]) -> dict[str, Any]:
        positive = float(np.ravel(outputs["score"])[0])
        scores = {self.negative: round(1 - positive, 6), self.positive: round(positive, 6)}
        label = self.positive if positive >= self.threshold else self.negative
        return {"label": label, "score": scores[label], "scores": scores}
