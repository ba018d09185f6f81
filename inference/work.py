"""One request's rows on their way through a version, and what becomes of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from inference.engines.base import Tensors


@dataclass(slots=True)
class Reply:
    """The body of an answer and what its headers say of it."""

    body: bytes
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Receipt(Protocol):
    """How the caller of answered work is told."""

    def settle(self, error: Exception | None) -> None: ...


@dataclass(slots=True, eq=False)
class Work:
    """One request's rows on their way through a version, and then its answer or its error.

    Either `inputs` holds the tensors, or `raw` the rows as they came (files, pixels) that its thread prepares. Only
    work of one `bucket` runs together: rows of like length, so that a long one does not slow short ones. `turn` is its
    place in the queue; `first_row`, the number of its first row in the request that it is a piece of, or none.
    """

    rows: int
    deadline: float
    render: Callable[[Tensors], Reply]
    inputs: Tensors | None = None
    raw: tuple[Any, ...] = ()
    receipt: "Receipt | None" = None
    priority: int = 0
    bucket: int = 0
    turn: tuple[int, int] = (0, 0)
    first_row: int | None = None
    queued_at: float = 0.0
    taken_at: float = 0.0
    queued: bool = False
    taken: bool = False
    abandoned: bool = False
    answer: Reply | None = None
    error: Exception | None = None
    compute_us: int = 0
    rows_run: int = 0
    parts: list[Tensors] = field(default_factory=list)

    @property
    def halfway(self) -> bool:
        """Whether some of its rows have run and others have not: it is larger than a batch, and nothing went wrong."""
        return 0 < self.rows_run < self.rows and self.error is None
