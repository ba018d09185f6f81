"""What a protocol does: parse a request into rows, render what comes out, render an error. Nothing else."""

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import orjson

from inference.batching import Reply
from inference.engines.base import Tensor, Tensors
from inference.plane.directory import DeploymentEntry, Directory, KeyEntry
from inference.plane.exchange import Answer, Request
from inference.plane.versions import LoadedVersion, Versions
from modelhub.signatures import TensorSpec
from tenants.errors import FieldError, Invalid, Refusal, TooLarge, UnsupportedMedia


class PredictRequest(NamedTuple):
    """A prediction request as it came, its body without its content encoding.

    `verb` is what its path asks for: predict, classify, regress or infer.
    """

    id: str
    content_type: str
    body: bytes
    deployment: str = ""
    verb: str = "predict"
    headers: Mapping[bytes, bytes] = {}


class Call(NamedTuple):
    """The rows that a request asks about: tensors, or raw rows that the engine's thread prepares.

    `render` writes the answer; `timeout` in seconds and `priority` are what the protocol itself says of them.
    """

    rows: int
    render: Callable[[Tensors], Reply]
    inputs: Tensors | None = None
    raw: tuple[bytes, ...] = ()
    timeout: float | None = None
    priority: int = 0


class WireProtocol(Protocol):
    """One wire format. Its module has ROUTES, and is named in `plane/routes.py`."""

    def parse(self, request: PredictRequest, version: LoadedVersion) -> Call: ...

    def render_error(self, refusal: Refusal) -> tuple[bytes, bytes]:
        """Body and content type; the status is the refusal's."""
        ...


class Asked(NamedTuple):
    """A request for something else than a prediction, and what a view may look at."""

    request: Request
    match: Mapping[str, str]
    key: KeyEntry | None
    deployment: DeploymentEntry | None
    versions: Versions
    directory: Directory


@dataclass(frozen=True, slots=True)
class Route:
    """A path that a protocol answers: a prediction (`verb`), or by its view.

    A group `name` in the pattern is a deployment's: it is found first, and one that is not there is refused. A view may
    raise any refusal, and Waiting. What is `public` needs no key.
    """

    pattern: re.Pattern[str]
    method: str
    protocol: WireProtocol
    verb: str = ""
    view: Callable[[Asked], Answer] | None = None
    public: bool = False


class Found(NamedTuple):
    """The route of a request, the deployment that its path names, and all that its path says."""

    route: Route
    name: str
    match: Mapping[str, str]


def json_answer(document: Any, status: int = 200) -> Answer:
    """A view's answer as JSON."""
    return Answer(status, orjson.dumps(document), [(b"content-type", b"application/json")])


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """The body without its content encoding; more than `limit` bytes are never made."""
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise UnsupportedMedia(f"Content-Encoding {encoding!r} is not known here; expected gzip or deflate.")
    stream = zlib.decompressobj(wbits=31 if encoding == "gzip" else 15)
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise Invalid(f"The body is not {encoding}: {error}.") from error
    if len(plain) > limit:
        raise TooLarge(f"The body unpacks to more than {limit:,} bytes.")
    if not stream.eof:
        raise Invalid(f"The {encoding} body is cut short.")
    return plain


def parse_json(body: bytes) -> dict[str, Any]:
    """The body as a JSON object."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"The body is not JSON: {error}.", errors=(FieldError("body", "Expected JSON."),)) from error
    if not isinstance(document, dict):
        raise Invalid(f"The body is JSON, but a {_kind(document)}; expected an object.")
    return document


def as_tensor(values: Any, spec: TensorSpec, field: str) -> Tensor:
    """Nested lists as the tensor that the signature names, checked for dtype and shape."""
    if not isinstance(values, list):
        raise _wrong(field, f"a {_kind(values)}", spec)
    try:
        found = np.array(values)
    except ValueError as error:
        raise _wrong(field, "a ragged list, whose rows differ in length", spec) from error
    wanted = np.dtype(spec.dtype)
    if found.size == 0:
        found = found.astype(wanted)
    if not _fits(found, wanted):
        raise _wrong(field, f"values of {_values(found)}", spec)
    with np.errstate(over="ignore"):
        tensor = found.astype(wanted, copy=False)
    if wanted.kind == "f" and not np.isfinite(tensor).all():
        raise _wrong(field, f"a number that is too large for {spec.dtype}", spec)
    if tensor.ndim != len(spec.shape) or any(
        size not in (-1, got) for size, got in zip(spec.shape[1:], tensor.shape[1:], strict=True)
    ):
        raise _wrong(field, f"the shape {list(tensor.shape)}", spec)
    if not len(tensor):
        raise _wrong(field, "no row", spec)
    return tensor


def _fits(found: Tensor, wanted: np.dtype[Any]) -> bool:
    """Whether values that JSON carried may become the wanted dtype without loss of meaning."""
    if wanted.kind == "f":
        return found.dtype.kind in "iuf"
    if wanted.kind in "iu":
        if found.dtype.kind not in "iu":
            return False
        limits = np.iinfo(wanted)
        return bool(found.size == 0 or (found.min() >= limits.min and found.max() <= limits.max))
    return found.dtype.kind == wanted.kind


def _wrong(field: str, got: str, spec: TensorSpec) -> Invalid:
    shape = "[" + ", ".join("rows" if i == 0 else str(size) for i, size in enumerate(spec.shape)) + "]"
    expected = f"{spec.dtype} of shape {shape}"
    return Invalid(
        f"{field}: got {got}; the input {spec.name!r} takes {expected}.",
        errors=(FieldError(field, f"Expected {expected}."),),
    )


def _values(found: Tensor) -> str:
    return {"U": "text", "O": "mixed kinds, nulls or objects", "b": "true and false", "f": "fractions"}.get(
        found.dtype.kind, str(found.dtype)
    )


def _kind(value: Any) -> str:
    names = {dict: "object", list: "list", str: "text", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


def dump_rows(rows: Tensor) -> bytes:
    """A tensor as nested JSON lists; NaN and infinities as bare tokens, as TensorFlow Serving writes them."""
    if rows.dtype.kind != "f" or np.isfinite(rows).all():
        return orjson.dumps(np.ascontiguousarray(rows), option=orjson.OPT_SERIALIZE_NUMPY)
    return _dump_with_tokens(rows.tolist()).encode()


def _dump_with_tokens(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(_dump_with_tokens(one) for one in value) + "]"
    if value != value:
        return "NaN"
    return {float("inf"): "Infinity", float("-inf"): "-Infinity"}.get(value) or repr(value)
