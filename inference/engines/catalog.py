"""The engines that there are, by the name that a manifest calls them."""

from collections.abc import Callable, Mapping
from typing import Any

from inference.engines.base import Engine
from inference.engines.litert import LiteRT
from inference.engines.measuring import Candidate
from inference.engines.onnx import Onnx
from inference.engines.savedmodel import SavedModel
from inference.engines.seq2seq import Seq2Seq

ENGINES: dict[str, Callable[..., Engine]] = {
    "litert": LiteRT,
    "onnx": Onnx,
    "savedmodel": SavedModel,
    "seq2seq": Seq2Seq,
}


def candidates(manifest: Mapping[str, Any]) -> list[Candidate]:
    """What may serve a version: the files that passed the accuracy gate, each with its engine."""
    serving = manifest["serving"]
    return [Candidate(one["engine"], one["file"]) for one in serving.get("candidates", [serving])]
