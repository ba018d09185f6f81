"""What a recipe does besides being named: it learns in the trainer's child, is exported, serves, and is assessed.

A recipe is light: it imports no TensorFlow. Its `Learner`, which it makes in the training process, does.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from modelhub.recipes.base import Interface, Manifest, Parameter

if TYPE_CHECKING:
    from modelhub.datasets.manifests import Manifest as Content
    from modelhub.trainer.task import Item, Reporter, Task

Tensors = Mapping[str, NDArray[Any]]
# The path of one of a version's files, by its name in the manifest; checked against its sha256.
PathOf = Callable[[str], Path]
# Tensors (of TensorFlow or numpy) that one step of training takes; the first dimension of the first is the rows.
Batch = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Monitor:
    """The metric that says which epoch was the best: its name among those of an epoch, and which way is up."""

    name: str
    higher_is_better: bool

    def better(self, one: float, other: float) -> bool:
        """Whether the one is strictly better than the other; NaN is better than nothing."""
        return one > other if self.higher_is_better else one < other


@dataclass(frozen=True, slots=True)
class Exported:
    """What a trained model was written as.

    `files` are names in the job's folder that the version keeps. `serving` is the manifest's part of that name: the
    candidates that passed the gate, each `{"engine", "file"}`, the first of them also at the top. Where the version is
    served through a `Pipeline`, it also holds `tensors`, the signature of the engine's own tensors as JSON, and
    `typical`, the sizes of their dynamic dimensions that a usual request has: `{"tokens": [16]}`; hosts measure by it.
    """

    files: list[str]
    serving: dict[str, Any]
    interface: Interface
    conversion: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a data set as a version is asked about it, and what the answer ought to be.

    `inputs` has a value for each input of the signature (of a picture, the bytes of its file). `slices` are what it may
    be grouped by: its class, its folder, its speaker, its columns.
    """

    inputs: Mapping[str, Any]
    truth: Any
    name: str
    slices: Mapping[str, str] = field(default_factory=dict)


class Learner(Protocol):
    """A recipe at work in the training process: made once for a job. All that it draws comes from its `seed`.

    The trainer calls `read`, `build`, then for each epoch `batches`, `loss` in a step of its own making, `validate`;
    then `evaluate` and `export`. A job that is taken over elsewhere is read and built anew, its weights are set from
    the checkpoint, and it goes on at the batch where it was: reading, building and batching repeat themselves exactly.
    What `loss` draws comes from Keras's layers, or from a seed that is part of the batch by `tf.random.stateless_…`.
    If `task.warm_files` is not empty, what `read` would learn (a vocabulary, norms) is taken from those files instead.

    A graph is traced for each shape of batch. A learner of many shapes may have, besides, `batch_signature`, a tuple of
    tf.TensorSpec with None for what varies: then there is one graph for all.
    """

    monitor: Monitor
    steps_per_epoch: int

    def read(self, *, folder: Path, report: "Reporter") -> None:
        """Decodes both splits into files of the folder, learns vocabularies and norms from train alone.

        An item that cannot be read is named in the log and left out. Raises Failure in words if too little is left.
        """
        ...

    def build(self) -> Any:
        """The untrained Keras model, its weights drawn from Keras's seed."""
        ...

    def batches(self, *, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The training batches of an epoch, the first being 1, from the `skip`-th on: a function of seed and epoch.

        Iterated in a thread of its own, a little ahead of the steps; it does not touch the model.
        """
        ...

    def loss(self, model: Any, batch: Batch) -> tuple[Any, Mapping[str, Any]]:
        """Traced into the training step: the batch's mean loss (float32 scalar), and sums that `summed` understands.

        The sums are scalars that are added up over the epoch; `rows` is one of them.
        """
        ...

    def summed(self, sums: Mapping[str, float]) -> dict[str, float]:
        """The training metrics of an epoch from its sums, such as `accuracy`; the loss is the trainer's."""
        ...

    def validate(self, model: Any) -> dict[str, float]:
        """The quick metrics after an epoch, `val_loss` among them, each named `val_…`."""
        ...

    def evaluate(self, model: Any, *, report: "Reporter") -> dict[str, Any]:
        """The full metrics on the validation split: what the version says of itself."""
        ...

    def export(self, model: Any, *, folder: Path, report: "Reporter") -> Exported:
        """Writes the files for serving and compares each with the trained model on the validation split.

        Raises Failure if none answers as the trained model does.
        """
        ...


class Pipeline(Protocol):
    """The serving side of a version whose inputs are no tensors of its engine's: texts, sounds, columns of a table.

    What clients see is the version's signature (`Interface.signature`), through every protocol: texts and files are
    BYTES tensors of shape (rows,). The engine sees `serving.tensors`. Imports no TensorFlow; thread-safe.
    """

    @property
    def content_types(self) -> tuple[str, ...]:
        """The media types of a body that is one row by itself: `text/plain`, `audio/*`; () if there are none."""
        ...

    def buckets(self, inputs: Tensors) -> int:
        """How long the longest of these rows is, as the power of two (or so) that it is padded to; cheap.

        Only requests of one bucket are run together, so that a long one does not slow short ones. 0: all are alike.
        """
        ...

    def encode(self, inputs: Tensors) -> Tensors:
        """The signature's inputs as the engine's, row by row; raises Invalid that says what is wrong with a row.

        There is at least one row, and rows of several requests may be among them. The words do not number the row:
        where it raises, it is asked about each row alone, and who asked with several is told which it was.
        """
        ...

    def decode(self, outputs: Tensors) -> Tensors:
        """The engine's outputs as the signature's, row by row."""
        ...

    def answer(self, outputs: Tensors) -> dict[str, Any]:
        """The signature's outputs for one row, in the language of the task, for the service's own protocol.

        They have no dimension of rows: an output of shape (rows,) is an array of no dimensions here.
        """
        ...


@runtime_checkable
class Sampled(Protocol):
    """A pipeline that knows what a usual request is like: hosts measure by it what its rows cost, and how to batch."""

    def sample(self, rows: int) -> Tensors:
        """So many rows of the signature's inputs, as usual ones are."""
        ...


class Runs(Protocol):
    """A version's engine, as far as its pipeline may use it."""

    def run(self, inputs: Tensors) -> Mapping[str, NDArray[Any]]:
        """The engine's inputs to its outputs, each of shape (rows, ...)."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """A pipeline that can answer as it goes."""

    def stream(self, inputs: Tensors, engine: Runs) -> Generator[dict[str, Any], None, Tensors]:
        """One row of the signature's inputs: yields answers as far as they are known, each replacing the one before.

        What it returns are the signature's outputs, as `decode` gives them. It is closed where its caller has left.
        """
        ...


class LearningRecipe(Protocol):
    """A task that a customer can train. Light: neither importing nor asking it loads TensorFlow.

    Besides, it serves: by `pipeline(manifest, path_of) -> Pipeline`, or, if its versions take the tensors of their
    engine and files that become one, by `served(manifest) -> Served`.
    """

    name: str
    title: str
    dataset_kind: str
    parameters: tuple[Parameter, ...]

    def check(self, content: "Content", parameters: Mapping[str, Any]) -> None:
        """Raises Invalid if this data set cannot be learned by this recipe with these parameters."""
        ...

    def learner(self, task: "Task") -> Learner:
        """The one that learns, in the training process."""
        ...

    def examples(self, items: Iterable["Item"]) -> Iterator[Example]:
        """The rows of a data set, for an evaluation of a version."""
        ...

    def assess(self, outputs: Tensors, truths: Sequence[Any], *, manifest: Manifest) -> dict[str, Any]:
        """The metrics of answers (the signature's outputs, a row for each truth): the same as at training."""
        ...
