"""The trained recognizer as an ONNX file of ONNX's own operators, and whether it answers as the Keras model does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from modelhub.recipes.learning import Exported
from modelhub.recipes.onnx_graph import FLOAT, INT64, Graph
from modelhub.recipes.speech import features, interface, settings
from modelhub.recipes.speech.ctc import LogProbabilities
from modelhub.recipes.speech.decoding import Decoder
from modelhub.recipes.speech.features import Frames
from modelhub.recipes.speech.model import KERNEL, gru_layers
from modelhub.recipes.speech.settings import STRIDE
from modelhub.trainer.task import Failure

FILE = "model.onnx"
MAX_DIFFERENCE = 1e-3
MIN_AGREEMENT = 0.98


def write(model: Any, path: Path) -> None:
    """Writes the model: inputs `features` float32 (rows, frames, 64) and `frames` int32 (rows,), those of each row.

    Outputs are `log_probabilities`, float32 (rows, steps, labels + 1), and `steps`, int32 (rows,). What is behind a
    row's frames must be zero and changes nothing before it.
    """
    graph = Graph()
    layer = {one.name: one for one in model.layers}
    frames = graph.input("frames", "int32", ("rows",))
    found = graph.node(
        "Transpose", graph.input("features", "float32", ("rows", "frames", features.MELS)), perm=[0, 2, 1]
    )
    rounded_up = graph.node("Add", frames, graph.constant(STRIDE - 1, np.int32))
    steps = graph.node("Div", rounded_up, graph.constant(STRIDE, np.int32), result="steps")
    found = _convolution(graph, layer["conv_1"], found)
    found = graph.node("Mul", found, _mask(graph, found, steps))
    found = _convolution(graph, layer["conv_2"], found)
    found = graph.node("Transpose", found, perm=[2, 0, 1])
    # The runtime takes no rows of length 0.
    lengths = graph.node("Max", steps, graph.constant(1, np.int32))
    for number, gru in enumerate(gru_layers(model), start=1):
        norm = layer[f"norm_{number}"]
        found = graph.norm(found, norm.gamma, norm.beta, epsilon=float(norm.epsilon))
        found = graph.node("Transpose", graph.bidirectional(found, gru, lengths), perm=[0, 2, 1, 3])
        found = graph.node("Reshape", found, graph.constant([0, 0, -1], np.int64))
    likely = graph.node("LogSoftmax", graph.dense(found, layer["labels"]), axis=-1)
    labels = int(layer["labels"].kernel.shape[1])
    likely = graph.node("Transpose", likely, perm=[1, 0, 2], result="log_probabilities")
    graph.output("log_probabilities", likely, "float32", ("rows", "steps", labels))
    graph.output("steps", steps, "int32", ("rows",))
    graph.save(path)


def _convolution(graph: Graph, layer: Any, given: str) -> str:
    """(rows, channels, time); Keras keeps its kernel as (width, in, out), ONNX as (out, in, width)."""
    kernel = graph.constant(np.asarray(layer.kernel).transpose(2, 1, 0))
    pads = [KERNEL // 2, KERNEL // 2]
    found = graph.node("Conv", given, kernel, graph.constant(layer.bias), pads=pads, strides=list(layer.strides))
    return graph.node("Relu", found)


def _mask(graph: Graph, given: str, steps: str) -> str:
    """1 for the steps that a row has, 0 behind them: (rows, 1, time)."""
    zero, one, two = (graph.constant(number, np.int64) for number in (0, 1, 2))
    places = graph.node("Range", zero, graph.node("Gather", graph.node("Shape", given), two), one)
    ends = graph.node("Cast", steps, to=INT64)
    return graph.node(
        "Cast", graph.node("Less", places, graph.node("Unsqueeze", ends, graph.constant([1, 2], np.int64))), to=FLOAT
    )


class Session:
    """The file as it is served, to compare it with."""

    def __init__(self, path: Path) -> None:
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def scored(self, rows: Sequence[Frames]) -> list[LogProbabilities]:
        """Of each sound's normed features the logarithms of the probabilities: (its steps, labels + 1)."""
        frames = np.asarray([len(row) for row in rows], np.int32)
        given = settings.padded(rows, settings.bucket(int(frames.max())))
        found, steps = self._session.run(["log_probabilities", "steps"], {"features": given, "frames": frames})
        return [one[:length] for one, length in zip(found, steps, strict=True)]


def exported(
    reference: Sequence[LogProbabilities],
    answers: Sequence[LogProbabilities],
    *,
    decoder: Decoder,
    usual_seconds: float,
) -> Exported:
    """What the version is, if the file answers as the trained model does; raises Failure if it does not."""
    difference = max(
        float(np.max(np.abs(np.exp(one) - np.exp(other)))) for one, other in zip(reference, answers, strict=True)
    )
    same = sum(decoder.labels(one) == decoder.labels(other) for one, other in zip(reference, answers, strict=True))
    agreement = same / len(reference)
    if not difference <= MAX_DIFFERENCE or agreement < MIN_AGREEMENT:
        raise Failure(
            f"The ONNX file does not agree with the trained model: a probability differs by {difference:.3g}, at most "
            f"{MAX_DIFFERENCE:g} is allowed, and {agreement:.1%} of the texts are the same. The fault is on our side; "
            "please tell us the job's id."
        )
    typical = settings.bucket(round(usual_seconds * features.FRAMES_A_SECOND))
    first = {"engine": "onnx", "file": FILE}
    return Exported(
        files=[FILE, settings.FILE],
        serving={
            **first,
            "candidates": [first],
            "tensors": interface.tensors(labels=int(reference[0].shape[1])).as_json(),
            "typical": {"features": [typical]},
        },
        interface=interface.interface(),
        conversion={
            "rows": len(reference),
            "served": FILE,
            "passed": [FILE],
            "files": {FILE: {"max_difference": difference, "agreement": agreement}},
        },
    )
