"""The demo: an operator opens an account, a customer walks from pictures to predictions and a bill."""

import io
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from django.contrib.auth.models import User
from django.core.management import call_command

from aiaas_site import journey, materials
from aiaas_site.customer import Customer, Json, Refused
from aiaas_site.env import VAR_DIR
from aiaas_site.materials import Material
from aiaas_site.terminal import Terminal

TENANT = "acme"
KEY_NAME = "demo"
SCOPES = "predict,read,manage,billing"
ADMIN = "admin"
STEPS = 6
SECRETS_FILE = VAR_DIR / "demo_secrets.json"
READY_FILE = VAR_DIR / "demo.json"
# Stored bytes are counted every minute; the journey's bill should show some.
SETTINGS = {"STORAGE_ACCRUAL_SECONDS": os.environ.get("STORAGE_ACCRUAL_SECONDS", "5")}


@dataclass(slots=True)
class Secrets:
    """What is shown once and kept under `var`, so that the next demo can go on."""

    api_key: str = ""
    admin_password: str = ""

    @classmethod
    def kept(cls) -> "Secrets":
        return cls(**json.loads(SECRETS_FILE.read_text())) if SECRETS_FILE.exists() else cls()

    def keep(self) -> None:
        write_private(SECRETS_FILE, asdict(self))


def walk(*, url: str, folder: Path | None, terminal: Terminal) -> None:
    """The whole journey in six steps, and what came of it."""
    begun = time.monotonic()
    terminal.step(1, STEPS, "The operator opens an account (the only step that is not HTTP)")
    key = open_account(url=url, terminal=terminal)
    with Customer(url=url, key=key) as customer, material_of(folder) as material:
        usage = journey.UsageOfKey(customer)
        terminal.step(2, STEPS, "The customer uploads a data set")
        dataset = journey.bring_data(customer, material, terminal)
        terminal.step(3, STEPS, "A model is trained on it")
        trained = journey.train(customer, dataset, dict(material.parameters), terminal)
        terminal.step(4, STEPS, "The registry holds the version")
        journey.look_up(trained.version, terminal)
        terminal.step(5, STEPS, "The version is deployed and asked")
        journey.deploy(customer, trained.version, terminal)
        predicted = journey.predict(customer, material, trained.version, terminal)
        terminal.step(6, STEPS, "What the key used, and what it costs")
        usage.wait_for(predicted.requests)
        invoice = journey.bill(customer, usage, terminal)
    terminal.line("\nSummary")
    for line in summary(trained.version, material, predicted, invoice):
        terminal.say(line)
    terminal.line(f"\nDone in {time.monotonic() - begun:.0f} s.")


def summary(version: Json, material: Material, predicted: journey.Predicted, invoice: Json) -> Iterator[str]:
    """What a reader should know who reads nothing else."""
    answer, metrics = predicted.answer, version["metrics"]
    verdict = "right" if answer["label"] == material.truth else f"wrong: it is a {material.truth}"
    yield f"prediction           {answer['label']} with score {answer['score']:.3f} ({verdict})"
    yield f"validation accuracy  {metrics['accuracy']:.3f} on {metrics['rows']} pictures that were not trained on"
    yield (
        "                     (says how often it is right on pictures like these, and of no others; "
        "guessing would reach about 0.5)"
    )
    yield (
        f"latency              p50 {predicted.p50_milliseconds:.1f} ms, p95 {predicted.p95_milliseconds:.1f} ms "
        f"over {predicted.requests - 2} predictions, one after another over loopback"
    )
    yield f"invoice {invoice['id']}"
    for line in journey.invoice_lines(invoice):
        yield f"  {line}"


def prepare(*, url: str, terminal: Terminal) -> None:
    """Has everything ready that a visitor needs, and writes `var/demo.json` when it is."""
    key = open_account(url=url, terminal=terminal)
    password = open_admin()
    with Customer(url=url, key=key) as customer, material_of(None) as material:
        dataset = journey.bring_data(customer, material, terminal)
        trained = journey.train(customer, dataset, dict(material.parameters), terminal)
        journey.deploy(customer, trained.version, terminal)
        journey.ready(customer, material, trained.version)
    admin = {"url": f"{url}/admin/", "username": ADMIN, "password": password}
    write_private(READY_FILE, {"url": url, "api_key": key, "deployment": journey.DEPLOYMENT, "admin": admin})


def open_account(*, url: str, terminal: Terminal) -> str:
    """The tenant and a key of it that works; those of an earlier run are reused."""
    kept = Secrets.kept()
    if kept.api_key and _works(url, kept.api_key):
        terminal.say(f"reused: tenant {TENANT} and the key {kept.api_key[:16]}… in {SECRETS_FILE.name}")
        return kept.api_key
    terminal.say(f"$ manage.py create_tenant {TENANT} --if-missing")
    terminal.say(_command("create_tenant", TENANT, "--if-missing"))
    terminal.say(f"$ manage.py create_api_key {TENANT} --name {KEY_NAME} --scopes {SCOPES}")
    made = json.loads(_command("create_api_key", TENANT, "--name", KEY_NAME, "--scopes", SCOPES, "--json"))
    kept.api_key = made["key"]
    kept.keep()
    terminal.say(f"{kept.api_key}\nis shown this once; the service keeps only its hash")
    return kept.api_key


def open_admin() -> str:
    """The password of the superuser `admin`, drawn at the first call."""
    kept = Secrets.kept()
    user, _ = User.objects.get_or_create(username=ADMIN, defaults={"is_staff": True, "is_superuser": True})
    if not (kept.admin_password and user.check_password(kept.admin_password)):
        kept.admin_password = secrets.token_urlsafe(12)
        kept.keep()
        user.set_password(kept.admin_password)
        user.is_staff = user.is_superuser = user.is_active = True
        user.save()
    return kept.admin_password


@contextmanager
def material_of(folder: Path | None) -> Iterator[Material]:
    """What to train on: the customer's folder, or the drawn pictures; its zip file is gone afterwards."""
    VAR_DIR.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="demo-", dir=VAR_DIR) as scratch:
        yield materials.drawn(Path(scratch)) if folder is None else materials.from_folder(folder, Path(scratch))


def write_private(path: Path, document: Json) -> None:
    """Writes JSON that only this user may read; a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with open(draft, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        json.dump(document, file, indent=2)
        file.write("\n")
    draft.replace(path)


def _works(url: str, key: str) -> bool:
    with Customer(url=url, key=key) as customer:
        try:
            me = customer.get("/api/v1/me")
        except Refused:
            return False
    return bool(me["tenant"]["name"] == TENANT and set(SCOPES.split(",")) <= set(me["caller"]["scopes"]))


def _command(*words: str) -> str:
    said = io.StringIO()
    call_command(*words, stdout=said)
    return said.getvalue().strip()
