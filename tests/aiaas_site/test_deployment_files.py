"""The Dockerfile and the compose file name only commands, settings and paths that exist, and pass Django's checks."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.core.management import get_commands

from aiaas_site.server import ROLES
from inference.plane import metrics
from inference.plane.routes import takes
from tests.live import ROOT
from tests.settings_read import settings_read

APP_SERVICES = ("migrate", "web", "plane", "trainer", "batch", "webhooks")
# Read by Python, not by our settings.
FOREIGN = {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "DJANGO_SETTINGS_MODULE"}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = COMPOSE["services"][name]
    return found


def check_command(words: list[str]) -> None:
    """A `python manage.py COMMAND` or `python -m MODULE --option …` that exists here."""
    assert words[0] == "python"
    if words[1] == "manage.py":
        assert (ROOT / "manage.py").exists()
        assert words[2] in get_commands()
        return
    assert words[1] == "-m"
    assert find_spec(words[2]) is not None
    help_text = subprocess.run(
        [sys.executable, "-m", words[2], "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for option in (word for word in words if word.startswith("--")):
        assert option in help_text


@pytest.mark.parametrize("name", APP_SERVICES)
def test_the_commands_of_the_services_exist(name: str) -> None:
    check_command(service(name)["command"])


def test_the_commands_of_the_image_exist() -> None:
    (command,) = re.findall(r'^CMD \["(.*)"\]$', DOCKERFILE, re.MULTILINE)
    check_command(command.split('", "'))
    for management_command in re.findall(r"python manage\.py (\w+)", DOCKERFILE):
        assert management_command in get_commands()


def test_each_plane_is_served_by_its_own_service() -> None:
    for name in ("web", "plane"):
        command = service(name)["command"]
        role = command[command.index("--role") + 1]
        assert role == name
        assert role in ROLES


@pytest.mark.parametrize("name", APP_SERVICES)
def test_the_settings_of_the_services_are_read(name: str) -> None:
    names = {setting.removesuffix("_FILE") for setting in service(name)["environment"]}
    assert names <= settings_read()


def test_the_settings_of_the_image_are_read() -> None:
    block = re.search(r"^ENV (.*?)(?<!\\)$", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert block
    assert set(re.findall(r"(\w+)=", block[1])) - FOREIGN <= settings_read()


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for source in re.findall(r"^COPY (?!--from)(\S+) \S+$", DOCKERFILE, re.MULTILINE):
        assert (ROOT / source).exists()
        assert source in kept


def test_the_image_takes_what_its_own_python_compiled_from_the_same_sources() -> None:
    before, compiling, after = DOCKERFILE.partition("-m aiaas_site.compiling")
    stages = re.findall(r"^FROM (\S+)(?: AS (\w+))?$", DOCKERFILE, re.MULTILINE)
    assert compiling
    assert [name for _, name in stages] == ["packages", "compiled", ""]
    assert stages[0][0] == stages[2][0]
    assert stages[1][0] == "packages"
    assert find_spec("aiaas_site.compiling") is not None
    assert "COPY --from=compiled /opt/venv/compiled /opt/venv/compiled" in after
    copied = [set(re.findall(r"^COPY (\w+) \1$", part, re.MULTILINE)) for part in (before, after)]
    assert copied[0] == copied[1] == {"aiaas_site", "tenants", "modelhub", "inference"}


def test_the_image_runs_as_nobody_in_particular_and_is_watched() -> None:
    assert re.search(r"^USER aiaas$", DOCKERFILE, re.MULTILINE)
    assert "HEALTHCHECK" in DOCKERFILE
    assert "/healthz" in DOCKERFILE


@pytest.mark.parametrize("name", APP_SERVICES)
def test_secrets_come_as_files_that_the_service_is_given(name: str) -> None:
    environment = service(name)["environment"]
    files = {value for setting, value in environment.items() if setting.endswith("_FILE")}
    assert files == {f"/run/secrets/{secret}" for secret in service(name)["secrets"]}
    assert set(service(name)["secrets"]) <= set(COMPOSE["secrets"])
    assert not {"SECRET_KEY", "DATABASE_URL", "MANIFEST_KEY"} & set(environment)


@pytest.mark.parametrize("name", ["web", "plane", "trainer", "batch"])
def test_what_is_written_lies_on_volumes(name: str) -> None:
    assert service(name)["read_only"] is True
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in service(name)["volumes"]}
    assert set(mounted.values()) <= set(COMPOSE["volumes"])
    folders = {service(name)["environment"][setting] for setting in ("FILES_DIR", "SCRATCH_DIR")}
    assert folders <= set(mounted)
    assert (service(name)["environment"]["SPOOL_DIR"] in mounted) == (name == "plane")
    for folder in mounted:
        assert folder in DOCKERFILE, "the image makes the folder, so that the volume takes its owner"


def test_every_service_is_limited_and_started_again() -> None:
    for name, found in COMPOSE["services"].items():
        limits = found["deploy"]["resources"]["limits"]
        assert {"cpus", "memory"} <= set(limits), name
        assert found["restart"] in ("unless-stopped", "on-failure:3"), name


def test_who_is_waited_for_has_the_processors_first() -> None:
    shares = {name: found["cpu_shares"] for name, found in COMPOSE["services"].items() if name != "migrate"}
    assert sorted(shares, key=lambda name: -shares[name]) == [
        "postgres", "proxy", "plane", "web", "webhooks", "trainer", "batch",
    ]  # fmt: skip
    assert shares["postgres"] >= 5 * shares["plane"]


def test_a_process_writes_only_below_its_three_folders() -> None:
    """The containers' file systems are read-only but for their volumes."""
    assert metrics.folder().is_relative_to(settings.SCRATCH_DIR)


PREDICTION_PATHS = (
    "/v1/models/cats:predict",
    "/v1/models/cats",
    "/v1/models/cats/versions/1/metadata",
    "/",
    "/v1/models",
    "/v2",
    "/v2/health/ready",
    "/v2/models/cats/infer",
    "/v2/repository/index",
    "/api/v1/deployments/cats/shadow",
    "/api/v1/deployments/cats/predict",
    "/api/v1/deployments/cats/predict/",
)
CONTROL_PATHS = (
    "/metrics",
    "/api/v1/deployments/cats/labels/shadow",
    "/api/v1/deployments/cats",
    "/api/v1/me",
    "/api/docs/",
    "/admin/",
    "/healthz",
    "/api/v1/models/cats",
)


def matches(pattern: str, path: str) -> bool:
    """As Caddy's path matcher: a star at the end stands for anything, one before it for one part of the path."""
    if pattern.endswith("*"):
        return path.startswith(pattern[:-1])
    return re.fullmatch(re.escape(pattern).replace(r"\*", "[^/]*"), path) is not None


def test_the_proxy_splits_paths_as_the_door_does() -> None:
    caddyfile = COMPOSE["configs"]["caddyfile"]["content"]
    (matcher,) = re.findall(r"@predictions path (.*)", caddyfile)
    patterns = matcher.split()
    for path in PREDICTION_PATHS + CONTROL_PATHS:
        proxied = any(matches(pattern, path) for pattern in patterns)
        assert proxied == takes(path) == (path in PREDICTION_PATHS), path
    assert re.findall(r"reverse_proxy (\w+):8000", caddyfile) == ["plane", "web"]


def test_the_application_has_a_role_that_row_security_holds() -> None:
    script = COMPOSE["configs"]["create_role"]["content"]
    assert "CREATE ROLE aiaas LOGIN NOSUPERUSER NOBYPASSRLS" in script
    assert service("postgres")["environment"].get("POSTGRES_USER") is None, "the superuser is not the application's"


@pytest.fixture
def production(tmp_path: Path) -> dict[str, str]:
    """The environment of the service `web`, with its secrets in a folder of this machine."""
    contents = {
        "secret_key": "k" * 20 + "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJ",
        "manifest_key": "m" * 50,
        "master_key": "k" * 50,
        "database_url": "postgres://aiaas:x@postgres:5432/aiaas\n",
    }
    environment = {
        name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for name, value in service("web")["environment"].items()
    }
    for name, value in environment.items():
        if name.endswith("_FILE"):
            secret = tmp_path / Path(value).name
            secret.write_text(contents[secret.name])
            environment[name] = str(secret)
    folders = {
        name: str(tmp_path / name) for name in ("FILES_DIR", "SPOOL_DIR", "SCRATCH_DIR", "STATIC_ROOT", "VAR_DIR")
    }
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return inherited | environment | folders


def test_django_finds_nothing_to_warn_of_in_production(production: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env=production,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


def test_a_local_site_is_not_fit_for_production(production: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env=production | {"AIAAS_ENV": "local"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "aiaas_site.W001" in done.stderr


def test_webhooks_into_private_networks_are_not_fit_for_production(production: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy"],
        cwd=ROOT,
        env=production | {"WEBHOOK_ALLOW_PRIVATE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "aiaas_site.E003" in done.stderr
