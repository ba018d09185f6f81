"""Loading a version: its artifact is checked against its sealed manifest, its engine chosen, made and weighed."""

import ctypes
from dataclasses import dataclass
from pathlib import Path

import psutil

from inference import measurements
from inference.engines import catalog
from inference.engines.base import Engine
from inference.engines.measuring import Candidate, Measured, blanks
from inference.plane.directory import VersionEntry
from modelhub import artifacts, recipes
from modelhub.recipes.base import Served

# A row this cheap is not worth a second engine for lone requests.
ALONE_FROM_SECONDS = 300e-6
# What a runtime needs for a model is a small multiple of its file; a reading beyond this is of something else.
MOST_TIMES_FILE = 8
SPARE_BYTES = 64 * 1024**2
# A runtime with next to nothing in it.
LEAST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a version is served with; `alone` answers a lone request, where several threads are faster."""

    engine: Engine
    alone: Engine | None
    served: Served | None
    measured: Measured
    memory_bytes: int


def load(entry: VersionEntry, *, threads: int) -> Loaded:
    """Makes a version ready to be run by so many engine threads; its engines are measured where that is new."""
    batched = entry.manifest["serving"].get("batched", True)
    measured = measurements.measured(
        tenant_id=entry.tenant_id, version_id=entry.id, candidates=catalog.candidates(entry.manifest),
        path_of=lambda candidate: _path(entry, candidate), signature=entry.signature, batched=batched,
    )  # fmt: skip
    path = _path(entry, measured.candidate)

    def make(threads: int) -> Engine:
        return catalog.ENGINES[measured.candidate.engine](path=path, signature=entry.signature, threads=threads)

    before = _allocated()
    engine = make(1)
    alone = None
    try:
        engine.run(blanks(entry.signature, measured.best_rows if batched else None))
        grown = _between(_allocated() - before, path)
        if measured.alone_threads > 1 and measured.seconds[1] > ALONE_FROM_SECONDS and not engine.outside_bytes:
            alone = make(measured.alone_threads)
            alone.run(blanks(entry.signature, 1 if batched else None))
        served = recipes.get(entry.recipe).served(entry.manifest) if entry.recipe else None
    except BaseException:
        engine.close()
        if alone is not None:
            alone.close()
        raise
    copies = (threads if engine.per_thread else 1) + (alone is not None)
    memory_bytes = engine.outside_bytes or grown * copies
    return Loaded(engine, alone, served, measured, memory_bytes)


def size_of(entry: VersionEntry) -> int:
    """The size in bytes of the smallest file that may serve a version: what it takes at least."""
    files = entry.manifest["files"]
    return min(int(files[candidate.file]["size"]) for candidate in catalog.candidates(entry.manifest))


def _path(entry: VersionEntry, candidate: Candidate) -> Path:
    return artifacts.checked_path(
        tenant_id=entry.tenant_id, manifest=entry.manifest, manifest_seal=entry.manifest_seal, file=candidate.file
    )


def _between(grown: int, path: Path) -> int:
    size = path.stat().st_size
    return min(max(grown, size, LEAST_BYTES), size * MOST_TIMES_FILE + SPARE_BYTES)


class _Mallinfo(ctypes.Structure):
    """What the C library says of its heap; see mallinfo2(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def _c_library() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return None
    library.mallinfo2.restype = _Mallinfo
    return library


_C_LIBRARY = _c_library()


def _allocated() -> int:
    """The bytes that this process has allocated, in all threads.

    Its resident memory would not do: a small model is made in memory that the one before it gave back, and has none.
    """
    if _C_LIBRARY is None:  # another C library cannot say
        return int(psutil.Process().memory_info().rss)
    heap = _C_LIBRARY.mallinfo2()
    return int(heap.uordblks + heap.hblkhd)
