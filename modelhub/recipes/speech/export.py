"""The trained recognizer as an ONNX file of ONNX's own operators, and whether it answers as the Keras model does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from modelhub.recipes.learning import Exported
from modelhub.recipes.speech import features, interface, settings
from modelhub.recipes.speech.ctc import LogProbabilities
from modelhub.recipes.speech.decoding import Decoder
from modelhub.recipes.speech.features import Frames
from modelhub.recipes.speech.model import KERNEL, gru_layers
from modelhub.recipes.speech.settings import STRIDE
from modelhub.trainer.task import Failure

FILE = "model.onnx"
OPSET, IR = 17, 8
MAX_DIFFERENCE = 1e-3
MIN_AGREEMENT = 0.98


def write(model: Any, path: Path) -> None:
    """Writes the model: inputs `features` float32 (rows, frames, 64) and `frames` int32 (rows,), those of each row.

    Outputs are `log_probabilities`, float32 (rows, steps, labels + 1), and `steps`, int32 (rows,). What is behind a
    row's frames must be zero and changes nothing before it.
    """
    graph = _Graph()
    layer = {one.name: one for one in model.layers}
    steps = graph.add("Div", [graph.add("Add", ["frames", graph.constant(STRIDE - 1, np.int32)]),
                              graph.constant(STRIDE, np.int32)], name="steps")  # fmt: skip
    found = graph.add("Transpose", ["features"], perm=[0, 2, 1])
    found = graph.convolution(layer["conv_1"], found)
    found = graph.add("Mul", [found, graph.mask(found, steps)])
    found = graph.convolution(layer["conv_2"], found)
    found = graph.add("Transpose", [found], perm=[2, 0, 1])
    # The runtime takes no rows of length 0.
    lengths = graph.add("Max", [steps, graph.constant(1, np.int32)])
    for number, gru in enumerate(gru_layers(model), start=1):
        found = graph.norm(layer[f"norm_{number}"], found)
        found = graph.bidirectional(gru, found, lengths)
    logits = graph.dense(layer["labels"], found)
    found = graph.add("LogSoftmax", [logits], axis=-1)
    graph.add("Transpose", [found], name="log_probabilities", perm=[1, 0, 2])
    onnx.save(graph.model(labels=int(layer["labels"].kernel.shape[1])), path)


class _Graph:
    """A graph of ONNX while it is made."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def add(self, kind: str, inputs: Sequence[str], *, name: str = "", **attributes: Any) -> str:
        """Adds a node of one output; gives the output's name."""
        name = name or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"weight_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def convolution(self, layer: Any, given: str) -> str:
        """(rows, channels, time); Keras keeps its kernel as (width, in, out), ONNX as (out, in, width)."""
        kernel, bias = self.constant(_of(layer.kernel).transpose(2, 1, 0)), self.constant(_of(layer.bias))
        pads = [KERNEL // 2, KERNEL // 2]
        return self.add("Relu", [self.add("Conv", [given, kernel, bias], pads=pads, strides=list(layer.strides))])

    def mask(self, given: str, steps: str) -> str:
        """1 for the steps that a row has, 0 behind them: (rows, 1, time)."""
        time = self.add("Gather", [self.add("Shape", [given]), self.constant(2, np.int64)])
        places = self.add("Range", [self.constant(0, np.int64), time, self.constant(1, np.int64)])
        ends = self.add("Unsqueeze", [self.add("Cast", [steps], to=TensorProto.INT64), self.constant([1, 2], np.int64)])
        return self.add("Cast", [self.add("Less", [places, ends])], to=TensorProto.FLOAT)

    def norm(self, layer: Any, given: str) -> str:
        weights = [self.constant(_of(layer.gamma)), self.constant(_of(layer.beta))]
        return self.add("LayerNormalization", [given, *weights], axis=-1, epsilon=float(layer.epsilon))

    def bidirectional(self, layer: Any, given: str, lengths: str) -> str:
        """(time, rows, channels) to (time, rows, 2 × units). Both keep the gates in the order update, reset, candidate.

        Keras's bias is (2, 3 × units), of the input and of the state; ONNX wants them one behind the other.
        """
        cells = [layer.forward_layer.cell, layer.backward_layer.cell]
        kernel = np.stack([_of(cell.kernel).T for cell in cells])
        recurrent = np.stack([_of(cell.recurrent_kernel).T for cell in cells])
        bias = np.stack([_of(cell.bias).reshape(-1) for cell in cells])
        weights = [self.constant(array) for array in (kernel, recurrent, bias)]
        found = self.add(
            "GRU",
            [given, *weights, lengths],
            direction="bidirectional",
            hidden_size=cells[0].units,
            linear_before_reset=1,
        )
        together = self.add("Transpose", [found], perm=[0, 2, 1, 3])
        return self.add("Reshape", [together, self.constant([0, 0, -1], np.int64)])

    def dense(self, layer: Any, given: str) -> str:
        product = self.add("MatMul", [given, self.constant(_of(layer.kernel))])
        return self.add("Add", [product, self.constant(_of(layer.bias))])

    def model(self, *, labels: int) -> Any:
        graph = helper.make_graph(
            self._nodes,
            "speech_recognizer",
            [
                helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", "frames", features.MELS]),
                helper.make_tensor_value_info("frames", TensorProto.INT32, ["rows"]),
            ],
            [
                helper.make_tensor_value_info("log_probabilities", TensorProto.FLOAT, ["rows", "steps", labels]),
                helper.make_tensor_value_info("steps", TensorProto.INT32, ["rows"]),
            ],
            self._weights,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        onnx.checker.check_model(made, full_check=True)
        return made


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


def _of(variable: Any) -> NDArray[np.float32]:
    return np.asarray(variable.value, np.float32)
