"""The engines that there are, by the name that a manifest calls them."""

from collections.abc import Callable

from inference.engines.base import Engine
from inference.engines.litert import LiteRT
from inference.engines.onnx import Onnx

ENGINES: dict[str, Callable[..., Engine]] = {LiteRT.name: LiteRT, Onnx.name: Onnx}
