"""A version that tells bright pictures from dark ones without having learned anything: evaluations are tried on it."""

from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from django.utils import timezone
from onnx import TensorProto, helper, save

from modelhub import registry
from modelhub.models import ModelVersion
from modelhub.signatures import Signature, TensorSpec
from tenants import scoping
from tests.conftest import Account

SIDE = 10
INPUTS = (TensorSpec("image", "float32", (-1, SIDE, SIDE, 3)),)
OUTPUTS = (TensorSpec("score", "float32", (-1, 1)),)
ABOUT: dict[str, Any] = {
    "preprocessing": {"kind": "picture", "height": SIDE, "width": SIDE, "scale": "1/255"},
    "labels": ["bright", "dark"],
    "decision": {"kind": "binary", "threshold": 0.5},
}


def model(path: Path) -> Path:
    """An ONNX file whose score, of being dark, is 1 - the mean of the picture: at most 1, at least 0."""
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", SIDE, SIDE, 3])
    answered = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows", 1])
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("ReduceMean", ["mean"], ["light"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["one", "light"], ["score"]),
    ]
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    graph = helper.make_graph(nodes, "bright", [given], [answered], initializer=[one])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    save(made, path)
    return path


def picture(light: int) -> bytes:
    """A JPEG of one grey, from 0 to 255."""
    return bytes(simplejpeg.encode_jpeg(np.full((12, 16, 3), light, np.uint8), quality=95))


def files(*, wrong: int = 1) -> dict[str, bytes]:
    """A usable data set of eight validation pictures; of the bright ones so many are dark, and each differs."""
    found: dict[str, bytes] = {}
    for split, count, shift in (("train", 3, 0), ("validation", 4, 20)):
        for place in range(count):
            off = split == "validation" and place < wrong
            found[f"{split}/bright/{place}.jpg"] = picture(60 + place if off else 200 + shift + place)
            found[f"{split}/dark/{place}.jpg"] = picture(10 + shift + place)
    return found


def published(account: Account, path: Path, **changes: Any) -> ModelVersion:
    """A version of acme's model `light`, in the registry."""
    with scoping.operator():
        return registry.publish(
            tenant_id=account.tenant.pk,
            model_name="light",
            recipe="image-classifier",
            files={"model.onnx": model(path / "model.onnx")},
            serving={"engine": "onnx", "file": "model.onnx"},
            signature=Signature(INPUTS, OUTPUTS),
            metrics=changes.pop("metrics", {"accuracy": 0.5}),
            parameters=changes.pop("parameters", {}),
            conversion={},
            actor="operator:test",
            now=timezone.now(),
            **ABOUT | changes,
        )
