"""Versions and labels that a path names."""

from inference.plane.directory import VersionEntry
from tenants.errors import Invalid, NotFound


def check_version(entry: VersionEntry, *, name: str, version: str, label: str) -> None:
    """Refuses a version or label in the path that the deployment does not serve."""
    if label:
        raise Invalid(f"Unrecognized servable version label: {label}")
    if version and version != str(entry.number):
        raise NotFound(f"Servable not found for request: Specific({name}, {version})")
