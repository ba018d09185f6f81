"""The Open Inference Protocol v2 as Triton's and KServe's clients speak it: infer, with its binary extension."""

from functools import partial
from math import prod

import numpy as np
import orjson

from inference import tensor_bytes
from inference.engines.base import Tensor
from inference.plane.versions import LoadedVersion
from inference.protocols.base import Call, PredictRequest, parse_json
from inference.protocols.open_inference import forms
from inference.protocols.open_inference.wanted import Wanted
from modelhub.signatures import BYTES
from tenants.errors import Invalid, Refusal

JSON_LENGTH = b"inference-header-content-length"
# Python itself refuses to read numbers of some thousand digits.
DIGITS = 18
NOTHING = memoryview(b"")


class OpenInference:
    """`infer`, in JSON or with tensors as bytes, either way."""

    def parse(self, request: PredictRequest, version: LoadedVersion) -> Call:
        body, headers, deployment = request.body, request.headers, request.deployment
        given = headers.get(JSON_LENGTH)
        if given is None:
            return forms.Form(parse_json(request.whole), 0, deployment, version).call(NOTHING, headers, version)
        if length := _length(given, len(body)):
            return forms.call_of(bytes(body[:length]), memoryview(body)[length:], headers, deployment, version)
        tensor = _raw_body(memoryview(body), version)
        wanted = Wanted({"parameters": {"binary_data_output": True}}, deployment, version)
        name = version.entry.signature.inputs[0].name
        return Call(len(tensor) if version.batched else 1, partial(wanted.render, headers), {name: tensor})

    def render_error(self, refusal: Refusal) -> tuple[bytes, bytes]:
        return orjson.dumps({"error": refusal.detail}), b"application/json"


def _length(given: bytes, body_bytes: int) -> int:
    """How much of the body is JSON, none if all of it is one raw tensor."""
    if not given.isdigit() or len(given) > DIGITS or int(given) > body_bytes:
        raise Invalid(
            f"Inference-Header-Content-Length is {given.decode('latin-1')!r}; expected the length of the JSON at the "
            f"beginning of a body of {body_bytes:,} bytes."
        )
    return int(given)


def _raw_body(tail: memoryview, version: LoadedVersion) -> Tensor:
    """A body that is nothing but the one input's bytes."""
    specs = version.entry.signature.inputs
    if len(specs) != 1:
        raise Invalid(f"A raw body holds one input; this model takes {[spec.name for spec in specs]}.")
    spec = specs[0]
    if spec.dtype == BYTES:
        found = np.empty(1, object)
        found[0] = bytes(tail)
        return found.reshape([1] * len(spec.shape))
    if any(size < 0 for size in spec.shape[1:]):
        raise Invalid(f"A raw body says no shape, and the input {spec.name!r} has dimensions of any size.")
    row = prod(spec.shape[1:]) * spec.numpy.itemsize
    if not row or len(tail) % row:
        raise Invalid(f"The raw body has {len(tail):,} bytes; rows of the input {spec.name!r} have {row:,} each.")
    return tensor_bytes.decode(tail, dtype=spec.dtype, shape=(len(tail) // row, *spec.shape[1:]), name=spec.name)


PROTOCOL = OpenInference()
