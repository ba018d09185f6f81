"""ONNX files written node by node from a trained model's weights: for layers that converters know badly or slowly."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET = 17
# The version of the file format that came with this set of operators.
IR_VERSION = 8
# What ONNX calls these in a Cast.
FLOAT, INT32, INT64 = 1, 6, 7


class Graph:
    """A graph as it grows: each node gives the name of its result."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._names = 0

    def input(self, name: str, dtype: str, shape: Sequence[str | int]) -> str:
        """An input; a dimension of any size is given as its name."""
        self._inputs.append(_value(name, dtype, shape))
        return name

    def output(self, name: str, of: str, dtype: str, shape: Sequence[str | int]) -> None:
        """Makes the result `of` a node an output of this name; it may have the name already."""
        if of != name:
            self.node("Identity", of, result=name)
        self._outputs.append(_value(name, dtype, shape))

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """A weight, or another constant of this dtype."""
        from onnx import numpy_helper

        name = self._name("constant")
        array: NDArray[Any] = np.asarray(values, dtype, order="C")
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, operator: str, *inputs: str, result: str = "", **attributes: Any) -> str:
        """A node with one result that is used; gives its name, which may be said beforehand."""
        return self.nodes(operator, *inputs, results=[result or self._name(operator.lower())], **attributes)[0]

    def nodes(self, operator: str, *inputs: str, results: Sequence[str] | int, **attributes: Any) -> list[str]:
        """A node with several results, or so many of them; gives their names."""
        from onnx import helper

        if isinstance(results, int):
            results = [self._name(operator.lower()) for _ in range(results)]
        self._nodes.append(helper.make_node(operator, list(inputs), list(results), **attributes))
        return list(results)

    def dense(self, values: str, layer: Any) -> str:
        """A Keras Dense layer without its activation, of values of two or more dimensions."""
        product = self.node("MatMul", values, self.constant(layer.kernel))
        return self.node("Add", product, self.constant(layer.bias))

    def norm(self, values: str, gamma: Any, beta: Any, *, epsilon: float) -> str:
        """Layer normalisation over the last dimension (Ba et al. 2016)."""
        weights = [self.constant(gamma), self.constant(beta)]
        return self.node("LayerNormalization", values, *weights, axis=-1, epsilon=epsilon)

    def bidirectional(self, values: str, layer: Any, lengths: str) -> str:
        """A Keras Bidirectional of GRUs: (time, rows, channels) to (time, directions, rows, units).

        `lengths`, int32 (rows,), says how much of each row there is. Keras and ONNX have the gates in one order:
        update, reset, candidate. Keras's bias is (2, 3 × units), of the input and of the state; ONNX wants the one
        behind the other.
        """
        cells = [layer.forward_layer.cell, layer.backward_layer.cell]
        return self.node(
            "GRU",
            values,
            self.constant(np.stack([np.asarray(cell.kernel).T for cell in cells])),
            self.constant(np.stack([np.asarray(cell.recurrent_kernel).T for cell in cells])),
            self.constant(np.stack([np.ravel(np.asarray(cell.bias)) for cell in cells])),
            lengths,
            direction="bidirectional",
            hidden_size=cells[0].units,
            linear_before_reset=1,
        )

    def as_bytes(self, name: str) -> bytes:
        """The graph under a name, checked, as one file without external data."""
        import onnx

        graph = onnx.helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._constants)
        made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(made, full_check=True)
        found: bytes = made.SerializeToString()
        return found

    def save(self, path: Path) -> None:
        """Writes the graph as a file."""
        path.write_bytes(self.as_bytes(path.stem))

    def _name(self, what: str) -> str:
        self._names += 1
        return f"{what}_{self._names}"


def _value(name: str, dtype: str, shape: Sequence[str | int]) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))
