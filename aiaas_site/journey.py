"""A customer's journey, step by step over HTTP: data, training, registry, deployment, predictions, usage and bill."""

import base64
import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from aiaas_site.customer import Customer, Json, Refused
from aiaas_site.materials import Material
from aiaas_site.terminal import Terminal

MODEL = DEPLOYMENT = "cats"
RECIPE = "image-classifier"
POLL_SECONDS = 0.3
# A deployment reaches the prediction plane by a notification, usage the ledger in segments of about a second.
SETTLE_SECONDS = 30.0
UNITS = {"predictions": "predictions", "training_seconds": "seconds", "stored_byte_hours": "byte-hours"}
UNFINISHED = ("queued", "running")


class Failed(Exception):
    """A step did not end well; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A version of the model, and whether this run trained it."""

    version: Json
    fresh: bool


@dataclass(frozen=True, slots=True)
class Predicted:
    """What the deployment said of the picture that was held back, and how fast it answers."""

    answer: Json
    p50_milliseconds: float
    p95_milliseconds: float
    requests: int


def bring_data(customer: Customer, material: Material, terminal: Terminal) -> Json:
    """A sealed data set of these pictures; one of the same content that is there already is reused."""
    terminal.say(material.described)
    found = customer.get("/api/v1/datasets", name=material.name)["results"]
    dataset = found[0] if found else customer.post("/api/v1/datasets", name=material.name, kind="image-classification")
    if dataset["state"] == "sealed":
        terminal.say(f"reused: {dataset['id']} is sealed and has the same content")
        return dataset
    if dataset["state"] != "checked":
        dataset = _uploaded(customer, dataset, material, terminal)
    _tell_report(dataset["report"], terminal)
    dataset = customer.post(f"/api/v1/datasets/{dataset['id']}/seal")
    terminal.say(f"sealed as {dataset['id']}: from now on it never changes")
    return dataset


def _uploaded(customer: Customer, dataset: Json, material: Material, terminal: Terminal) -> Json:
    """Sends the zip, and asks meanwhile how far the check is."""
    path, size = f"/api/v1/datasets/{dataset['id']}", material.archive.stat().st_size

    def sent(count: int) -> None:
        terminal.progress("upload", count / size, f"{_megabytes(count)} of {_megabytes(size)}")
        if count == size:
            checking.set()

    checking, answered = threading.Event(), threading.Event()

    def watch() -> None:
        checking.wait()
        while not answered.wait(POLL_SECONDS):
            with contextlib.suppress(Refused):
                _tell_check(customer.get(path)["progress"], terminal)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        checked = customer.upload(f"{path}/content", material.archive, sent=sent)
    finally:
        answered.set()
        checking.set()
        watcher.join()
    _tell_check({"phase": "checking", "done": checked["items"], "total": checked["items"]}, terminal)
    return checked


def _tell_check(progress: Json, terminal: Terminal) -> None:
    if progress.get("phase") == "checking" and progress["total"]:
        done, total = progress["done"], progress["total"]
        terminal.progress("check", done / total, f"{done} of {total} files")


def _tell_report(report: Json, terminal: Terminal) -> None:
    for split, classes in report["splits"].items():
        terminal.say(f"{split}: " + ", ".join(f"{count} {name}" for name, count in classes.items()))
    if report["bad"]:
        terminal.say("1 file was left out:" if report["bad"] == 1 else f"{report['bad']} files were left out:")
        for problem in report["problems"][:5]:
            terminal.say(f"  {problem['name']}: {problem['problem']}")
    for warning in report.get("warnings", ()):
        terminal.say(f"note: {warning['detail']}")


def train(customer: Customer, dataset: Json, parameters: Json, terminal: Terminal) -> Trained:
    """A version of the model trained on this data set; one that is there already is reused."""
    versions = customer.find(f"/api/v1/models/{MODEL}/versions") or {"results": []}
    for version in versions["results"]:
        if version["lineage"]["dataset"] == dataset["id"]:
            terminal.say(f"reused: {MODEL} version {version['number']} was trained on this data set")
            return Trained(version, fresh=False)
    job = _unfinished_job(customer, dataset) or customer.post(
        "/api/v1/training-jobs", dataset=dataset["id"], model=MODEL, recipe=RECIPE, parameters=parameters
    )
    shown = ", ".join(f"{name} {value}" for name, value in parameters.items())
    terminal.say(f"job {job['id']}, recipe {RECIPE}: {shown}")
    job = _followed(customer, job, terminal)
    if job["state"] != "succeeded":
        raise Failed(f"The training job {job['id']} {job['state']}. {job['error'] or ''}".rstrip())
    terminal.say(f"succeeded after {float(job['training_seconds']):.0f} training seconds")
    number = job["version"]["number"]
    return Trained(customer.get(f"/api/v1/models/{MODEL}/versions/{number}"), fresh=True)


def _unfinished_job(customer: Customer, dataset: Json) -> Json | None:
    """A job for this data set that an earlier run left behind."""
    for state in UNFINISHED:
        jobs: list[Json] = customer.get("/api/v1/training-jobs", state=state, dataset=dataset["id"])["results"]
        if jobs:
            return jobs[0]
    return None


def _followed(customer: Customer, job: Json, terminal: Terminal) -> Json:
    """Polls the job until it ends, and tells each phase and each epoch as it comes."""
    told = 0
    while True:
        job = customer.get(f"/api/v1/training-jobs/{job['id']}")
        for metrics in job["metrics"][told:]:
            terminal.say(_epoch(metrics, job["parameters"]["epochs"]))
        told = len(job["metrics"])
        if job["state"] not in UNFINISHED:
            return job
        _tell_phase(job["progress"], terminal)
        time.sleep(POLL_SECONDS)


def _tell_phase(progress: Json, terminal: Terminal) -> None:
    if not progress.get("total"):
        return
    done, total = progress["done"], progress["total"]
    if progress["phase"] == "training":
        epoch, epochs = progress["epoch"], progress["epochs"]
        share = (epoch - 1 + done / total) / epochs
        terminal.glimpse("training", share, f"epoch {epoch} of {epochs}, step {done} of {total}")
    else:
        terminal.glimpse(progress["phase"], done / total if total > 1 else None, progress.get("split", ""))


def _epoch(metrics: Json, epochs: int) -> str:
    parts = [
        f"{name.replace('val_', 'validation ')} {value:.3f}"
        for name, value in metrics.items()
        if name in ("loss", "accuracy", "val_loss", "val_accuracy")
    ]
    return f"epoch {metrics['epoch']} of {epochs}: " + ", ".join(parts)


def look_up(version: Json, terminal: Terminal) -> None:
    """What the registry holds of the version."""
    metrics = version["metrics"]
    terminal.say(
        f"{version['model']} version {version['number']} ({version['id']}), manifest {version['manifest_sha256'][:12]}…"
    )
    terminal.say(f"accuracy {metrics['accuracy']:.3f}, loss {metrics['loss']:.3f} on the validation split")
    _tell_confusion(metrics["confusion_matrix"], terminal)
    for name, file in version["files"].items():
        terminal.say(f"{name:<18} {_megabytes(file['size']):>9}  sha256 {file['sha256'][:12]}…")
    lineage = version["lineage"]
    terminal.say(f"made by {lineage['job']} from {lineage['dataset']}")


def _tell_confusion(confusion: Json, terminal: Terminal) -> None:
    labels = confusion["labels"]
    width = max(len(label) for label in labels) + 2
    terminal.say(" " * (width + 4) + "answered " + "".join(f"{label:>{width}}" for label in labels))
    for label, row in zip(labels, confusion["matrix"], strict=True):
        terminal.say(f"was {label:<{width}}         " + "".join(f"{count:>{width}}" for count in row))


def deploy(customer: Customer, version: Json, terminal: Terminal) -> Json:
    """The deployment, serving this version."""
    path, number = f"/api/v1/deployments/{DEPLOYMENT}", version["number"]
    found = customer.find(path)
    if found is None:
        terminal.say(f"created deployment {DEPLOYMENT} of {MODEL} version {number}")
        return customer.post("/api/v1/deployments", name=DEPLOYMENT, model=MODEL, version=number)
    if (found["model"], found["version"]) == (MODEL, number):
        terminal.say(f"reused: deployment {DEPLOYMENT} serves {MODEL} version {number}")
        return found
    terminal.say(f"pointed deployment {DEPLOYMENT} from version {found['version']} to {number}")
    return customer.patch(path, model=MODEL, version=number)


def predict(
    customer: Customer, material: Material, version: Json, terminal: Terminal, *, count: int = 200
) -> Predicted:
    """Asks about the picture that was held back, by both addresses, then measures `count` more predictions."""
    labels, number = version["labels"], version["number"]
    native, tensorflow = f"/api/v1/deployments/{DEPLOYMENT}/predict", f"/v1/models/{DEPLOYMENT}:predict"
    terminal.say(f"picture: {material.picture_described}")

    def ask() -> Json:
        return customer.post_bytes(native, material.picture, material.picture_type)

    answer = _settled(ask, number)
    terminal.say(f"POST {native} → label {answer['label']}, score {answer['score']:.3f}")
    encoded = {"b64": base64.b64encode(material.picture).decode()}
    score = customer.post(tensorflow, instances=[encoded])["predictions"]
    terminal.say(f"POST {tensorflow} → predictions {score} (the model's output, the probability of {labels[1]})")
    times = sorted(_seconds(ask) for _ in range(count))
    return Predicted(
        answer=answer,
        p50_milliseconds=statistics.median(times) * 1000,
        p95_milliseconds=times[int(len(times) * 0.95)] * 1000,
        requests=count + 2,
    )


def ready(customer: Customer, material: Material, version: Json) -> None:
    """Returns when the deployment answers, and with this version."""
    path = f"/api/v1/deployments/{DEPLOYMENT}/predict"
    _settled(lambda: customer.post_bytes(path, material.picture, material.picture_type), version["number"])


def _settled(ask: Callable[[], Json], number: int) -> Json:
    """The version's answer, once the change of the deployment has reached the prediction plane."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        try:
            answer = ask()
            if answer["version"] == number:
                return answer
        except Refused as refused:
            if refused.status not in (404, 503):
                raise
        if time.monotonic() > deadline:
            raise Failed(f"The deployment {DEPLOYMENT} did not serve version {number} within {SETTLE_SECONDS:g} s.")
        time.sleep(0.1)


def _seconds(ask: Callable[[], Json]) -> float:
    begun = time.perf_counter()
    ask()
    return time.perf_counter() - begun


class UsageOfKey:
    """Reads what the key has used, and waits until what it did since is in the ledger."""

    def __init__(self, customer: Customer) -> None:
        self._customer = customer
        self._key = customer.get("/api/v1/me")["caller"]["id"]
        self._since = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        self._before = self._predictions()

    def wait_for(self, predictions: int) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        while self._predictions() < self._before + predictions:
            if time.monotonic() > deadline:
                raise Failed(f"The usage report did not show {predictions} predictions within {SETTLE_SECONDS:g} s.")
            time.sleep(POLL_SECONDS)

    def hours(self) -> list[Json]:
        """The key's usage of this month by the hour, in the order of time."""
        return self._rows(self._since.replace(day=1, hour=0))

    def _predictions(self) -> Decimal:
        rows = self._rows(self._since)
        return sum((Decimal(row["quantity"]) for row in rows if row["meter"] == "predictions"), Decimal(0))

    def _rows(self, since: datetime) -> list[Json]:
        until = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        page = self._customer.get(
            "/api/v1/usage",
            **{
                "from": _iso(since),
                "to": _iso(until),
                "bucket_width": "hour",
                "group_by": "key,meter",
                "key": self._key,
            },
        )
        rows: list[Json] = page["results"]
        return rows


def bill(customer: Customer, usage: UsageOfKey, terminal: Terminal) -> Json:
    """The key's usage by the hour, and the draft of the month's invoice."""
    for hour, rows in _by_hour(usage.hours()):
        terminal.say(f"{hour}  " + ", ".join(f"{row['meter']} {Decimal(row['quantity']):,.0f}" for row in rows))
    return customer.get(f"/api/v1/invoices/{datetime.now(UTC):%Y-%m}")


def _by_hour(rows: list[Json]) -> Iterator[tuple[str, list[Json]]]:
    starts = sorted({row["start"] for row in rows})
    for start in starts[-6:]:
        moment = datetime.fromisoformat(start)
        yield f"{moment:%Y-%m-%d %H:%M} UTC", [row for row in rows if row["start"] == start]


def invoice_lines(invoice: Json) -> list[str]:
    """The invoice as a table."""
    currency = invoice["currency"]
    rows = [
        (
            line["description"],
            f"{Decimal(line['quantity']):,.0f} {UNITS.get(line['meter'], line['meter'])}",
            f"at {_price(line['unit_price'])} {currency} per {line['unit']}",
            f"{line['amount']} {currency}",
        )
        for line in invoice["lines"]
    ]
    rows.append(("Total", f"({invoice['state']})", "", f"{invoice['total']} {currency}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        f"{name:<{widths[0]}}  {quantity:>{widths[1]}}  {price:<{widths[2]}}  {amount:>{widths[3]}}"
        for name, quantity, price, amount in rows
    ]


def _price(amount: str) -> str:
    """With two decimals at least: 0.50, and 0.0001."""
    digits = Decimal(amount).normalize()
    return f"{digits:.2f}" if digits == round(digits, 2) else f"{digits:f}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
