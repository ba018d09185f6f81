"""What a peer's program is asked to serve, read from its environment: one model, one setting."""

import os
from dataclasses import dataclass
from pathlib import Path

PREFIX = "PEER_"


@dataclass(frozen=True, slots=True)
class Asked:
    """A LiteRT file, how many processes (or instances) run it, and how requests are put together into batches."""

    model: str
    file: Path
    port: int
    other_port: int
    workers: int
    batch: int
    wait_ms: int

    @property
    def wait(self) -> float:
        return self.wait_ms / 1000


def read() -> Asked:
    """What the environment asks for."""
    given = {name: os.environ[PREFIX + name.upper()] for name in Asked.__slots__}
    return Asked(
        model=given["model"],
        file=Path(given["file"]),
        port=int(given["port"]),
        other_port=int(given["other_port"]),
        workers=int(given["workers"]),
        batch=int(given["batch"]),
        wait_ms=int(given["wait_ms"]),
    )
