"""Routing: which version of a deployment answers a request, and which one is asked beside it."""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass

from inference.plane.directory import DeploymentEntry, KeyEntry, VersionEntry
from tenants.errors import Invalid, NotFound, Unavailable

PAUSED_RETRY_SECONDS = 60
# A split is drawn in ten thousandths, so that percents come out evenly.
PARTS = 10_000
_random = random.Random()


# What is made for each request writes out its constructor, for one that dataclasses make is not compiled.
@dataclass(slots=True, init=False)
class Target:
    """The version that answers, and the one that is asked beside it."""

    version: VersionEntry
    shadow: VersionEntry | None

    def __init__(self, version: VersionEntry, shadow: VersionEntry | None) -> None:
        self.version = version
        self.shadow = shadow


def choose(
    deployment: DeploymentEntry, *, key: KeyEntry, headers: Mapping[bytes, bytes], version: str = "", label: str = ""
) -> Target:
    """The target of a request; a version or label in its path is taken at its word, whatever the split says."""
    if deployment.paused:
        raise Unavailable(
            f"The deployment {deployment.name!r} is paused by its owner.", retry_after=PAUSED_RETRY_SECONDS
        )
    if version or label:
        return Target(named(deployment, version=version, label=label), None)
    if not deployment.canaries:
        return Target(deployment.version, deployment.shadow)
    return Target(_drawn(deployment, _place(deployment, key, headers)), deployment.shadow)


def named(deployment: DeploymentEntry, *, version: str = "", label: str = "") -> VersionEntry:
    """The version that a path names, by its number or by a label; with neither the main one."""
    if label:
        found = deployment.labels.get(label)
        if found is None:
            raise Invalid(f"Unrecognized servable version label: {label}")
        return found
    if not version:
        return deployment.version
    for one in deployment.addressable:
        if version == str(one.number):
            return one
    raise NotFound(f"Servable not found for request: Specific({deployment.name}, {version})")


def _drawn(deployment: DeploymentEntry, place: int) -> VersionEntry:
    """The canaries take the lowest places in their order, so that one that grows keeps the callers it had."""
    end = 0
    for version, weight in deployment.canaries:
        end += weight * (PARTS // 100)
        if place < end:
            return version
    return deployment.version


def _place(deployment: DeploymentEntry, key: KeyEntry, headers: Mapping[bytes, bytes]) -> int:
    """A place from 0 to PARTS - 1: the same for the same caller if the deployment is sticky, else by chance."""
    how, _, header = deployment.sticky.partition(":")
    if how == "key":
        return _hashed(deployment, key.id.encode())
    if how == "header":
        value = headers.get(header.lower().encode())
        if value is not None:
            return _hashed(deployment, value)
    return int(_random.random() * PARTS)


def _hashed(deployment: DeploymentEntry, value: bytes) -> int:
    """The deployment's name is in it, so that the same callers are not the first to try each canary."""
    digest = hashlib.blake2b(value, digest_size=8, key=deployment.name.encode()).digest()
    return int.from_bytes(digest) % PARTS
