"""The kinds of refusal that domain code knows; each protocol renders them in its own form."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with the input: where, and what was expected."""

    field: str
    message: str


class Refusal(Exception):
    """A request that was understood and is not carried out; its text is written for the person who sent it."""

    # Said to be the class's own, or the compiler drops what a compiled class derived from it says.
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The request was refused"
    slug: ClassVar[str] = "refused"

    def __init__(self, detail: str, *, errors: tuple[FieldError, ...] = (), retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.retry_after = retry_after


class Invalid(Refusal):
    status, title, slug = 400, "The request is not valid", "invalid"


class Unauthenticated(Refusal):
    status, title, slug = 401, "A valid API key is needed", "unauthenticated"


class Denied(Refusal):
    status, title, slug = 403, "Not allowed for this key or role", "denied"


class NotFound(Refusal):
    status, title, slug = 404, "There is no such thing here", "not-found"


class MethodNotAllowed(Refusal):
    status, title, slug = 405, "This address does not take this method", "method-not-allowed"

    def __init__(self, detail: str, *, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(detail)
        self.allowed = allowed


class Conflict(Refusal):
    status, title, slug = 409, "The state of the thing does not allow this", "conflict"


class LengthRequired(Refusal):
    status, title, slug = 411, "The length of the body is needed", "length-required"


class TooLarge(Refusal):
    status, title, slug = 413, "The request is too large", "too-large"


class UnsupportedMedia(Refusal):
    status, title, slug = 415, "This content type is not taken here", "unsupported-media"


class OverQuota(Refusal):
    status, title, slug = 429, "The quota or rate limit is used up", "over-quota"


class NotImplementedHere(Refusal):
    status, title, slug = 501, "This is not served here", "not-implemented"


class Unavailable(Refusal):
    status, title, slug = 503, "The service cannot answer right now", "unavailable"


class DeadlineExceeded(Refusal):
    status, title, slug = 504, "The deadline passed before the answer was there", "deadline-exceeded"
