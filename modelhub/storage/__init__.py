"""Stored files: content-addressed by sha256, once per tenant, encrypted; their byte-hours in the ledger."""

from modelhub.storage import checkpoints
from modelhub.storage.accrual import accrue
from modelhub.storage.blobs import StoredBlob, erase, erase_all, held, local_path, lock, open, read  # noqa: A004
from modelhub.storage.ciphers import Damaged
from modelhub.storage.staging import Staging, put

__all__ = [
    "Damaged",
    "Staging",
    "StoredBlob",
    "accrue",
    "checkpoints",
    "erase",
    "erase_all",
    "held",
    "local_path",
    "lock",
    "open",
    "put",
    "read",
]
