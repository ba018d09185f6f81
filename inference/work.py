"""One request's rows on their way through a version, and what becomes of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from inference.engines.base import Tensors

if TYPE_CHECKING:
    from inference.plane.exchange import Exchange


# What is made for each request writes out its constructor, for one that dataclasses make is not compiled.
@dataclass(slots=True, init=False)
class Reply:
    """The body of an answer and what its headers say of it."""

    body: bytes
    content_type: bytes
    headers: tuple[tuple[bytes, bytes], ...]

    def __init__(
        self, body: bytes, content_type: bytes = b"application/json", headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        self.body = body
        self.content_type = content_type
        self.headers = headers


class Receipt(Protocol):
    """How who asked for work hears of its end, if that is no exchange."""

    def settle(self, error: Exception | None) -> None: ...


@dataclass(slots=True, eq=False, init=False)
class Work:
    """One request's rows on their way through a version, and then its answer or its error.

    Either `inputs` holds the tensors, or `raw` the rows as they came (files, pixels) that its thread prepares. Only
    work of one `bucket` runs together: rows of like length, so that a long one does not slow short ones. `turn` is its
    place in the queue; `first_row`, the number of its first row in the request that it is a piece of, or none.
    """

    rows: int
    deadline: float
    render: Callable[[Tensors], Reply]
    inputs: Tensors | None
    raw: tuple[Any, ...]
    receipt: "Exchange | Receipt | None"
    priority: int
    bucket: int
    turn: tuple[int, int]
    first_row: int | None
    queued_at: float
    taken_at: float
    queued: bool
    taken: bool
    abandoned: bool
    answer: Reply | None
    error: Exception | None
    compute_us: int
    rows_run: int
    parts: list[Tensors]

    def __init__(
        self,
        rows: int,
        deadline: float,
        render: Callable[[Tensors], Reply],
        *,
        inputs: Tensors | None = None,
        raw: tuple[Any, ...] = (),
        receipt: "Exchange | Receipt | None" = None,
        priority: int = 0,
        bucket: int = 0,
        first_row: int | None = None,
        queued_at: float = 0.0,
    ) -> None:
        self.rows = rows
        self.deadline = deadline
        self.render = render
        self.inputs = inputs
        self.raw = raw
        self.receipt = receipt
        self.priority = priority
        self.bucket = bucket
        self.turn = (0, 0)
        self.first_row = first_row
        self.queued_at = queued_at
        self.taken_at = 0.0
        self.queued = self.taken = self.abandoned = False
        self.answer = None
        self.error = None
        self.compute_us = 0
        self.rows_run = 0
        self.parts = []

    @property
    def halfway(self) -> bool:
        """Whether some of its rows have run and others have not: it is larger than a batch, and nothing went wrong."""
        return 0 < self.rows_run < self.rows and self.error is None
