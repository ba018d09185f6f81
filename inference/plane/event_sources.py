"""What can be followed by server-sent events: batch predictions, and trainings with their epochs and their log."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import orjson
from django.db.models import Max

from inference import batch_predictions
from inference.models import BatchPrediction
from modelhub import training
from modelhub.models import TrainingJob, TrainingLogLine
from tenants import scoping

# Lines of a log that are sent at a time.
LINES = 500
CURSOR = re.compile(r"(\d{1,9})-(\d{1,9})-(\d{1,9})-([a-z]+)")


class Event(NamedTuple):
    """One event: whoever saw this id is not sent it again."""

    id: str
    name: str
    data: Any

    def as_bytes(self) -> bytes:
        return f"id: {self.id}\nevent: {self.name}\ndata: {orjson.dumps(self.data).decode()}\n\n".encode()


class News(NamedTuple):
    """Events, oldest first, and whether there are `more` behind them already."""

    events: list[Event]
    more: bool = False


class Seen(Protocol):
    """A job at one moment; two moments are equal if there is nothing new to tell."""

    @property
    def job_id(self) -> str: ...

    @property
    def has_ended(self) -> bool: ...

    def after(self, last_id: str) -> News:
        """What is new to who saw that event; of a job that has ended, nothing to who saw its end. May query."""
        ...


class Source(Protocol):
    """A kind of job that can be followed; both run in a thread."""

    path: re.Pattern[str]

    def get(self, *, tenant_id: str, job_id: str) -> Seen:
        """The tenant's job of this id, in its scope; raises NotFound."""
        ...

    def look(self, job_ids: Collection[str]) -> Mapping[str, Seen]:
        """These jobs as they are now, those that there are, in operator scope."""
        ...


@dataclass(frozen=True, slots=True)
class SeenBatch:
    """How far a batch prediction is: only where it stands is told, not how it came there."""

    job_id: str
    state: str
    total: int
    done: int
    failed: int
    has_ended: bool

    def after(self, last_id: str) -> News:
        here = f"{self.state}-{self.done}"
        if here == last_id:
            return News([])
        rows = {"total": self.total, "done": self.done, "failed": self.failed}
        told = {"id": self.job_id, "state": self.state, "rows": rows}
        return News([Event(here, "end" if self.has_ended else "progress", told)])


class BatchPredictions:
    """The progress of batch predictions."""

    path = re.compile(r"/api/v1/batch-predictions/([^/]+)/events/?")

    def get(self, *, tenant_id: str, job_id: str) -> Seen:
        return self._seen(batch_predictions.get(tenant=tenant_id, job_id=job_id))

    def look(self, job_ids: Collection[str]) -> Mapping[str, Seen]:
        return {job.pk: self._seen(job) for job in BatchPrediction.across_tenants.filter(pk__in=job_ids)}

    @staticmethod
    def _seen(job: BatchPrediction) -> SeenBatch:
        return SeenBatch(job.pk, job.state, job.rows_total, job.rows_done, job.rows_failed, job.has_ended)


class Cursor(NamedTuple):
    """How much of a training a client has seen; an event's id is the cursor behind it."""

    attempt: int = 0
    epochs: int = 0
    lines: int = 0
    state: str = ""

    @classmethod
    def of(cls, event_id: str) -> "Cursor":
        """What an id says; all is new to who names an id that none of ours is."""
        match = CURSOR.fullmatch(event_id)
        return cls(int(match[1]), int(match[2]), int(match[3]), match[4]) if match else cls()

    def __str__(self) -> str:
        return f"{self.attempt}-{self.epochs}-{self.lines}-{self.state or 'none'}"


@dataclass(frozen=True, slots=True)
class SeenTraining:
    """A training with its epochs, of whose log the last line has this number."""

    job_id: str
    tenant_id: str
    state: str
    attempt: int
    progress: dict[str, Any]
    history: list[dict[str, Any]]
    last_line: int
    error: str
    stop_reason: str
    has_ended: bool

    def after(self, last_id: str) -> News:
        """Log lines, epochs and the state, each once, and the progress of now. The end is told last of all.

        An attempt that begins anew tells its epochs anew.
        """
        seen = Cursor.of(last_id)
        if seen.attempt != self.attempt and len(self.history) < seen.epochs:
            seen = seen._replace(epochs=0)
        lines = self._lines(seen)
        events = [Event(str(seen._replace(lines=number)), "log", told) for number, told in lines]
        if lines:
            seen = seen._replace(lines=lines[-1][0])
        if lines and seen.lines < self.last_line:
            return News(events, more=True)
        steps = (self._epochs, self._states) if self.has_ended else (self._states, self._epochs)
        for step in steps:
            seen = step(seen, events)
        if self.progress and not self.has_ended:
            events.append(Event(str(seen), "progress", self.progress))
        return News(events)

    def _epochs(self, seen: Cursor, events: list[Event]) -> Cursor:
        for number, epoch in enumerate(self.history[seen.epochs :], seen.epochs + 1):
            seen = seen._replace(epochs=number)
            events.append(Event(str(seen), "epoch", epoch))
        return seen

    def _states(self, seen: Cursor, events: list[Event]) -> Cursor:
        if (self.state, self.attempt) != (seen.state, seen.attempt):
            seen = seen._replace(state=self.state, attempt=self.attempt)
            events.append(Event(str(seen), "state", self._told()))
        return seen

    def _lines(self, seen: Cursor) -> list[tuple[int, dict[str, Any]]]:
        """The next lines of the log with their numbers, not too many at a time."""
        if self.last_line <= seen.lines:
            return []
        with scoping.tenant(self.tenant_id):
            rows = TrainingLogLine.objects.for_tenant(self.tenant_id).filter(
                job_id=self.job_id, number__gt=seen.lines, number__lte=self.last_line
            )
            lines = list(rows.order_by("number")[:LINES])
        return [(row.number, {"number": row.number, "at": row.at.isoformat(), "text": row.text}) for row in lines]

    def _told(self) -> dict[str, Any]:
        return {
            "id": self.job_id,
            "state": self.state,
            "attempt": self.attempt,
            "error": self.error or None,
            "stop_reason": self.stop_reason or None,
        }


class TrainingJobs:
    """The states, epochs, log and progress of trainings."""

    path = re.compile(r"/api/v1/training-jobs/([^/]+)/events/?")

    def get(self, *, tenant_id: str, job_id: str) -> Seen:
        job = training.get(tenant=tenant_id, job_id=job_id)
        return self._seen(job, training.last_line(hold=training.hold_of(job)))

    def look(self, job_ids: Collection[str]) -> Mapping[str, Seen]:
        # The jobs first: of one that has ended every line is there by now.
        jobs = list(TrainingJob.across_tenants.filter(pk__in=job_ids))
        lines = TrainingLogLine.across_tenants.filter(job__in=job_ids).values("job").annotate(last=Max("number"))
        last = {row["job"]: row["last"] for row in lines}
        return {job.pk: self._seen(job, last.get(job.pk, 0)) for job in jobs}

    @staticmethod
    def _seen(job: TrainingJob, last_line: int) -> SeenTraining:
        return SeenTraining(
            job_id=job.pk,
            tenant_id=job.tenant_id,
            state=job.state,
            attempt=job.attempt,
            progress=job.progress,
            history=job.history,
            last_line=last_line,
            error=job.error,
            stop_reason=job.stop_reason,
            has_ended=job.has_ended,
        )


SOURCES: tuple[Source, ...] = (BatchPredictions(), TrainingJobs())
