"""What a protocol does: parse a request into rows, render what comes out, render an error. Nothing else."""

import base64
import binascii
import contextlib
import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np
import orjson

from inference.engines.base import Tensor, Tensors
from inference.plane.directory import DeploymentEntry, Directory, KeyEntry
from inference.plane.exchange import Answer, Request
from inference.plane.shadow import Shadows
from inference.plane.statistics import Statistics
from inference.plane.versions import LoadedVersion, Versions
from inference.work import Reply
from modelhub.signatures import TensorSpec
from tenants.errors import FieldError, Invalid, Refusal, TooLarge, UnsupportedMedia

# Up to so many numbers are checked one by one, which is faster than an array's passes.
FEW_ROWS, FEW_COLUMNS = 4, 32
NUMBERS = frozenset((float, int))
# An empty tensor costs its sender nothing, but an engine may make room for what it would hold.
MAX_EMPTY_ELEMENTS = 2**22
NULL = b"n"  # the only letter of it that no number has
FLOAT_LIMITS = {size: float(np.finfo(f"f{size}").max) for size in (2, 4, 8)}


# What is made for each request writes out its constructor, for one that dataclasses make is not compiled.
@dataclass(slots=True, init=False)
class PredictRequest:
    """A prediction request as it came, its body without its content encoding.

    `verb` is what its path asks for: predict, classify, regress or infer. A body to `infer` may be a view of bytes.
    """

    id: str
    content_type: str
    body: bytes | memoryview
    deployment: str
    verb: str
    headers: Mapping[bytes, bytes]

    def __init__(
        self,
        request_id: str,
        content_type: str,
        body: bytes | memoryview,
        deployment: str = "",
        verb: str = "predict",
        headers: Mapping[bytes, bytes] | None = None,
    ) -> None:
        self.id = request_id
        self.content_type = content_type
        self.body = body
        self.deployment = deployment
        self.verb = verb
        self.headers = {} if headers is None else headers

    @property
    def whole(self) -> bytes:
        """The body as bytes, which it mostly is."""
        return bytes(self.body)


@dataclass(slots=True, init=False)
class Call:
    """The rows that a request asks about: tensors, or raw rows that the engine's thread prepares.

    `render` writes the answer; `timeout` in seconds and `priority` are what the protocol itself says of them. Its rows
    run together with those of the same `bucket` only.
    """

    rows: int
    render: Callable[[Tensors], Reply]
    inputs: Tensors | None
    raw: tuple[Any, ...]
    timeout: float | None
    priority: int
    bucket: int

    def __init__(
        self,
        rows: int,
        render: Callable[[Tensors], Reply],
        inputs: Tensors | None = None,
        raw: tuple[Any, ...] = (),
        timeout: float | None = None,
        priority: int = 0,
        bucket: int = 0,
    ) -> None:
        self.rows = rows
        self.render = render
        self.inputs = inputs
        self.raw = raw
        self.timeout = timeout
        self.priority = priority
        self.bucket = bucket


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
    statistics: Statistics
    ready: bool
    limits_rows: int
    shadows: Shadows


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


@dataclass(frozen=True, slots=True)
class Found:
    """The route of a request, the deployment that its path names, and all that its path says."""

    route: Route
    match: Mapping[str, str]
    name: str
    version: str
    label: str


def json_answer(document: Any, status: int = 200) -> Answer:
    """A view's answer as JSON."""
    return Answer(status, orjson.dumps(document), [(b"content-type", b"application/json")])


def decompressed(body: bytes | memoryview, encoding: str, limit: int) -> bytes:
    """The body without its content encoding; more than `limit` bytes are never made."""
    if encoding in ("", "identity"):
        return bytes(body)
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
    """The body as a JSON object; the tokens NaN and Infinity are taken, too, as Python's own clients write them."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        document = _with_tokens(body, error)
    if not isinstance(document, dict):
        raise Invalid(f"The body is JSON, but a {_kind(document)}; expected an object.")
    return document


def _with_tokens(body: bytes, refused: orjson.JSONDecodeError) -> Any:
    if b"NaN" in body or b"Infinity" in body:
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(body)
    raise Invalid(f"The body is not JSON: {refused}.", errors=(FieldError("body", "Expected JSON."),)) from refused


def as_tensor(values: Any, spec: TensorSpec, field: str, *, batched: bool = True) -> Tensor:
    """Nested lists as the tensor that the signature names, checked for dtype and shape."""
    wanted = spec.numpy
    if wanted.kind == "f" and len(spec.shape) == 2 and type(values) is list and len(values) <= FEW_ROWS:
        tensor = _small(values, spec, wanted)
        if tensor is not None:
            return tensor
    if batched and not isinstance(values, list):
        raise _wrong(field, f"a {_kind(values)}", spec)
    found = as_array(values, spec, field)
    tensor = as_texts(found, spec, field) if wanted.kind == "O" else as_numbers(found, spec, field)
    if tensor.ndim != len(spec.shape) and tensor.size == 0 and len(tensor) == 0:
        tensor = tensor.reshape((0, *(max(size, 0) for size in spec.shape[1:])))  # [] says nothing of its rows' shape
    check_shape(tensor.shape, spec, field, batched=batched)
    return tensor


def as_array(values: Any, spec: TensorSpec, field: str) -> Tensor:
    """Nested lists as an array of what they hold, whatever that is."""
    wanted = spec.numpy
    try:
        found = np.array(values, dtype=object if wanted.kind == "O" else None)
        if wanted == np.uint64 and found.dtype.kind == "f":
            # Small and very large integers together become fractions, unless they are kept apart.
            apart = np.array(values, dtype=object)
            if _whole(apart):
                return apart
    except ValueError as error:
        raise _wrong(field, "a ragged list, whose rows differ in length", spec) from error
    return found


def check_shape(shape: tuple[int, ...], spec: TensorSpec, field: str, *, batched: bool = True) -> None:
    """Refuses a shape that is not the signature's; with `batched` any number of rows fits."""
    if 0 in shape and prod(size for size in shape if size) > MAX_EMPTY_ELEMENTS:
        raise _wrong(field, f"the shape {list(shape)}, which is empty and yet too large", spec)
    fixed = spec.shape[1:] if batched else spec.shape
    got = shape[1:] if batched else shape
    if len(shape) != len(spec.shape) or any(size not in (-1, one) for size, one in zip(fixed, got, strict=True)):
        raise _wrong(field, f"the shape {list(shape)}", spec)


def _small(rows: list[Any], spec: TensorSpec, wanted: np.dtype[Any]) -> Tensor | None:
    """A few rows of floats, without the passes over an array that cost more than they; none if anything is odd."""
    width = spec.shape[1]
    limit = FLOAT_LIMITS[wanted.itemsize]
    for row in rows:
        if type(row) is not list or len(row) > FEW_COLUMNS or not row or (len(row) != width and width >= 0):
            return None
        if not set(map(type, row)) <= NUMBERS or not (max(row) <= limit and min(row) >= -limit):
            return None
    try:
        tensor = np.array(rows, wanted)
    except ValueError:
        return None
    return tensor if tensor.ndim == 2 else None


def as_numbers(found: Tensor, spec: TensorSpec, field: str) -> Tensor:
    """Numbers or booleans that JSON carried, in the signature's dtype."""
    wanted = spec.numpy
    if found.size == 0:
        found = found.astype(wanted)
    if not _fits(found, wanted):
        raise _wrong(field, f"values of {_values(found)}", spec)
    with np.errstate(over="ignore"):
        tensor = found.astype(wanted, copy=False)
    if wanted.kind == "f" and found.dtype.kind in "iuf" and (np.isinf(tensor) & np.isfinite(found)).any():
        raise _wrong(field, f"a number that is too large for {spec.dtype}", spec)
    return tensor


def as_texts(found: Tensor, spec: TensorSpec, field: str) -> Tensor:
    """Texts and {"b64": …} objects as bytes."""
    flat = [_text(value, spec, field) for value in found.ravel()]
    tensor = np.empty(len(flat), object)
    tensor[:] = flat
    return tensor.reshape(found.shape)


def _text(value: Any, spec: TensorSpec, field: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and value.keys() == {"b64"}:
        return b64(value, field)
    raise _wrong(field, f"a {_kind(value)}", spec)


def b64(value: Any, field: str) -> bytes:
    """The bytes of `{"b64": "…"}`."""
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise Invalid(f'{field}: expected {{"b64": base64}}; {error}.') from error


def _fits(found: Tensor, wanted: np.dtype[Any]) -> bool:
    """Whether values that JSON carried may become the wanted dtype without loss of meaning."""
    if wanted.kind == "f":
        return found.dtype.kind in "iuf"
    if wanted.kind in "iu":
        if found.dtype.kind not in "iu" and not _whole(found):
            return False
        limits = np.iinfo(wanted)
        return bool(found.size == 0 or (found.min() >= limits.min and found.max() <= limits.max))
    return found.dtype.kind == wanted.kind


def _whole(found: Tensor) -> bool:
    """Whether these are Python's own integers, of any size."""
    return found.dtype.kind == "O" and all(type(value) is int for value in found.flat)


def _wrong(field: str, got: str, spec: TensorSpec) -> Invalid:
    expected = f"{spec.dtype} of shape {described(spec)}"
    return Invalid(
        f"{field}: got {got}; the input {spec.name!r} takes {expected}.",
        errors=(FieldError(field, f"Expected {expected}."),),
    )


def described(spec: TensorSpec) -> str:
    """A signature's shape for people."""
    sizes = ("any" if size < 0 else str(size) for size in spec.shape[1:])
    first = () if not spec.shape else ("rows" if spec.shape[0] < 0 else str(spec.shape[0]),)
    return "[" + ", ".join((*first, *sizes)) + "]"


def _values(found: Tensor) -> str:
    return {"U": "text", "O": "mixed kinds, nulls or objects", "b": "true and false", "f": "fractions"}.get(
        found.dtype.kind, str(found.dtype)
    )


def _kind(value: Any) -> str:
    names = {dict: "object", list: "list", str: "text", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


def dump_rows(rows: Tensor, *, b64: bool = False) -> bytes:
    """A tensor as nested JSON lists; NaN and infinities as bare tokens, as TensorFlow Serving writes them.

    Bytes are written as text, and with `b64`, or if one is no UTF-8, as objects {"b64": …}.
    """
    kind = rows.dtype.kind
    if kind == "O":
        return _dump_bytes(rows, b64=b64)
    if kind == "f" and rows.dtype.itemsize == 2:
        rows = rows.astype(np.float32)
    if rows.ndim == 0:
        found = orjson.dumps(rows.item())
    else:
        found = orjson.dumps(np.ascontiguousarray(rows), option=orjson.OPT_SERIALIZE_NUMPY)
    if kind == "f" and NULL in found:  # what JSON has no number for
        return _dump_with_tokens(rows.tolist()).encode()
    return found


def _dump_bytes(rows: Tensor, *, b64: bool) -> bytes:
    if not b64:
        try:
            return orjson.dumps(_each(rows.tolist(), bytes.decode))
        except UnicodeDecodeError:
            pass
    return orjson.dumps(_each(rows.tolist(), lambda one: {"b64": base64.b64encode(one).decode()}))


def _each(value: Any, write: Callable[[bytes], Any]) -> Any:
    if isinstance(value, list):
        return [_each(one, write) for one in value]
    return write(value if isinstance(value, bytes) else str(value).encode())


def _dump_with_tokens(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(_dump_with_tokens(one) for one in value) + "]"
    if value != value:
        return "NaN"
    return {float("inf"): "Infinity", float("-inf"): "-Infinity"}.get(value) or repr(value)
