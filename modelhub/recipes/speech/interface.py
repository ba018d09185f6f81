"""How a version of the speech recognizer is spoken to, and the tensors of its engine behind that."""

from modelhub import sounds
from modelhub.recipes.base import Interface
from modelhub.recipes.speech import features
from modelhub.signatures import BYTES, DYNAMIC, Signature, TensorSpec


def interface() -> Interface:
    """A sound file in, its text out; `words` is JSON, a list of `{"word", "start", "end"}` in seconds."""
    return Interface(
        signature=Signature(
            inputs=(TensorSpec("audio", BYTES, (DYNAMIC,)),),
            outputs=(
                TensorSpec("text", BYTES, (DYNAMIC,)),
                TensorSpec("confidence", "float32", (DYNAMIC,)),
                TensorSpec("words", BYTES, (DYNAMIC,)),
                TensorSpec("seconds", "float32", (DYNAMIC,)),
            ),
        ),
        preprocessing={
            "kind": "log-mel",
            "rate": sounds.RATE,
            "window_seconds": features.WINDOW / sounds.RATE,
            "hop_seconds": features.HOP / sounds.RATE,
            "bands": features.MELS,
        },
        labels=[],
        decision={"kind": "transcript"},
    )


def tensors(*, labels: int) -> Signature:
    """What the engine takes and gives; `labels` counts the blank."""
    return Signature(
        inputs=(
            TensorSpec("features", "float32", (DYNAMIC, DYNAMIC, features.MELS)),
            TensorSpec("frames", "int32", (DYNAMIC,)),
        ),
        outputs=(
            TensorSpec("log_probabilities", "float32", (DYNAMIC, DYNAMIC, labels)),
            TensorSpec("steps", "int32", (DYNAMIC,)),
        ),
    )
