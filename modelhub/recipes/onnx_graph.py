"""ONNX files written node by node from a trained model's weights: for layers that converters know badly or slowly."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET = 17
# The version of the file format that came with this set of operators.
IR_VERSION = 8


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
        """Makes the result `of` a node an output of this name."""
        self._nodes.append(_node("Identity", [of], [name]))
        self._outputs.append(_value(name, dtype, shape))

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """A weight, or another constant of this dtype."""
        from onnx import numpy_helper

        name = self._name("constant")
        array: NDArray[Any] = np.ascontiguousarray(np.asarray(values, dtype))
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A node with one result that is used; gives its name."""
        name = self._name(operator.lower())
        self._nodes.append(_node(operator, list(inputs), [name], **attributes))
        return name

    def dense(self, values: str, layer: Any) -> str:
        """A Keras Dense layer without its activation, of values of two or more dimensions."""
        product = self.node("MatMul", values, self.constant(layer.kernel))
        return self.node("Add", product, self.constant(layer.bias))

    def save(self, path: Path) -> None:
        """Writes the graph, checked, as one file without external data."""
        import onnx

        graph = onnx.helper.make_graph(self._nodes, path.stem, self._inputs, self._outputs, self._constants)
        made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(made, full_check=True)
        onnx.save(made, path)

    def _name(self, what: str) -> str:
        self._names += 1
        return f"{what}_{self._names}"


def _node(operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(operator, inputs, outputs, **attributes)


def _value(name: str, dtype: str, shape: Sequence[str | int]) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))
