"""Speech to text: the recipe `speech-recognizer`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelhub import evaluation
from modelhub.recipes.base import Manifest, Parameter
from modelhub.recipes.learning import Example, Learner, PathOf, Tensors
from modelhub.recipes.schedule import training_parameters
from modelhub.recipes.speech import language, settings
from modelhub.recipes.speech.pipeline import SpeechPipeline
from tenants.errors import FieldError, Invalid

if TYPE_CHECKING:
    from modelhub.datasets.manifests import Manifest as Content
    from modelhub.trainer.task import Item, Task

LANGUAGES = ("auto", "words", "none")

PARAMETERS = (
    *training_parameters(
        epochs=60,
        batch_size=16,
        learning_rate=0.001,
        schedule="cosine",
        warmup_steps=100,
        weight_decay=0.01,
        clip_norm=5.0,
    ),
    Parameter("filters", "integer", "Channels of the two convolutions.", 128, minimum=8, maximum=1024),
    Parameter("units", "integer", "Units of each direction of a recurrent layer.", 128, minimum=8, maximum=1024),
    Parameter(
        "layers", "integer", "Bidirectional recurrent layers, of gated recurrent units.", 2, minimum=1, maximum=6
    ),
    Parameter("dropout", "number", "The share of channels left out at each training step.", 0.2, maximum=0.9),
    Parameter(
        "speed_change",
        "number",
        "Sounds are also learned slower and faster by this share, and lower and higher with it; 0: as they are.",
        0.1,
        maximum=0.3,
    ),
    Parameter(
        "noise",
        "number",
        "The loudest white noise that is put behind the training sounds, as a share of their own loudness; 0: none.",
        0.1,
        maximum=1.0,
    ),
    Parameter("time_masks", "integer", "Stretches of each training sound that are hidden.", 2, maximum=10),
    Parameter(
        "frequency_masks", "integer", "Bands of frequencies of each training sound that are hidden.", 2, maximum=10
    ),
    Parameter(
        "language",
        "choice",
        "What texts there are: only words of the training transcripts, weighed by which follows which (words), any of "
        "their characters (none), or words if the transcripts have few enough of them (auto).",
        "auto",
        choices=LANGUAGES,
    ),
    Parameter("language_weight", "number", "How much it counts how usual a text is.", 0.5, maximum=4.0),
    Parameter(
        "word_bonus", "number", "What each word of a text adds to its likelihood, in nats.", 0.5, minimum=-5, maximum=5
    ),
    Parameter("beam", "integer", "How many beginnings of a text are followed at a time.", 16, minimum=1, maximum=128),
)


class SpeechRecognizer:
    """Writes down what is said."""

    name = "speech-recognizer"
    title = "Speech to text"
    dataset_kind = "speech"
    parameters: tuple[Parameter, ...] = PARAMETERS

    def check(self, content: "Content", parameters: Mapping[str, Any]) -> None:
        for split in ("train", "validation"):
            if not any(language.normalised(item.target) for item in content.items if item.split == split):
                raise Invalid(
                    f"The recipe {self.name} learns from transcripts; the {split} split has none of letters or digits.",
                    errors=(FieldError("dataset", "Expected transcripts in both splits."),),
                )

    def learner(self, task: "Task") -> Learner:
        from modelhub.recipes.speech.learner import SpeechLearner

        return SpeechLearner(task)

    def pipeline(self, manifest: Manifest, path_of: PathOf) -> SpeechPipeline:
        return SpeechPipeline(settings.read(path_of(settings.FILE)))

    def examples(self, items: Iterable["Item"]) -> Iterator[Example]:
        for item in items:
            yield Example(
                inputs={"audio": Path(item.file).read_bytes()},
                truth=item.target,
                name=item.name,
                slices={"speaker": item.group} if item.group else {},
            )

    def assess(self, outputs: Tensors, truths: Sequence[Any], *, manifest: Manifest) -> dict[str, Any]:
        """The word error rate and its kin; transcripts are compared without case and punctuation."""
        texts = [bytes(text).decode() for text in outputs["text"]]
        return evaluation.word_error_rate([language.normalised(truth) for truth in truths], texts)
