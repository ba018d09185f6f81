"""Loading a version: its artifact is checked against its sealed manifest, its engine chosen, made and weighed."""

import ctypes
from dataclasses import dataclass
from pathlib import Path

import psutil

from inference import helpers, measurements
from inference.engines import catalog, measuring, piped
from inference.engines.base import Engine, Tensors
from inference.engines.measuring import Measured
from inference.engines.piped import Piped
from inference.helpers import Helpers
from inference.plane.directory import VersionEntry
from modelhub import artifacts, heap
from modelhub.recipes import serving
from modelhub.recipes.base import Served
from modelhub.recipes.learning import Pipeline, Sampled

# A row this cheap is not worth a second engine for lone requests.
ALONE_FROM_SECONDS = 300e-6
# What a runtime needs for a model is a small multiple of its file; a reading beyond this is of something else.
MOST_TIMES_FILE = 8
SPARE_BYTES = 64 * 1024**2
# A runtime with next to nothing in it.
LEAST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a version is served with; `alone` answers a lone request, where several threads (`helpers`) are faster.

    Where it has a pipeline, the engines are behind it, and so are the times; `usual_bucket` is that of a usual request,
    and of none where the pipeline does not know what is usual.
    """

    engine: Engine
    alone: Engine | None
    served: Served | None
    measured: Measured
    memory_bytes: int
    pipeline: Pipeline | None = None
    usual_bucket: int | None = None
    helpers: Helpers | None = None


def load(entry: VersionEntry, *, threads: int) -> Loaded:
    """Makes a version ready to be run by so many engine threads; its engines are measured where that is new."""
    before = _allocated()
    pipeline = serving.pipeline(entry.recipe, entry.manifest, lambda name: _path(entry, name))
    prepared = _allocated() - before
    asked = piped.asked_of(entry.manifest, pipeline)
    of_engine = measurements.measured(
        tenant_id=entry.tenant_id, version_id=entry.id, candidates=catalog.candidates(entry.manifest),
        path_of=lambda candidate: _path(entry, candidate.file), asked=asked,
    )  # fmt: skip
    path = _path(entry, of_engine.candidate.file)

    def make(threads: int) -> Engine:
        made = catalog.ENGINES[of_engine.candidate.engine](path=path, signature=asked.signature, threads=threads)
        return made if pipeline is None else Piped(made, pipeline)

    before = _allocated() - prepared
    engine = make(1)
    alone, helping = None, None
    try:
        outputs = _own(engine).run(asked.inputs(of_engine.best_rows))
        grown = _between(_allocated() - before, path)
        if of_engine.alone_threads > 1 and of_engine.seconds[1] > ALONE_FROM_SECONDS and not engine.outside_bytes:
            with helpers.noted() as helping:
                alone = make(of_engine.alone_threads)
                _own(alone).run(asked.inputs(1))
        served = serving.served(entry.recipe, entry.manifest)
        measured, usual = _with_pipeline(of_engine, pipeline, {name: rows[:1] for name, rows in outputs.items()})
    except BaseException:
        engine.close()
        if alone is not None:
            alone.close()
        raise
    if grown >= heap.LARGE_BYTES:
        heap.into_large_pages()
    copies = (threads if engine.per_thread else 1) + (alone is not None)
    memory_bytes = engine.outside_bytes or grown * copies
    return Loaded(engine, alone, served, measured, memory_bytes, pipeline, usual, helping)


def _with_pipeline(measured: Measured, pipeline: Pipeline | None, outputs: Tensors) -> tuple[Measured, int | None]:
    """The times with what the pipeline does for a row, and the bucket of a usual one.

    A pipeline that does not know what is usual is taken for one that costs too much to run on the event loop.
    """
    if pipeline is None:
        return measured, None
    if not isinstance(pipeline, Sampled):
        return measured.with_more(measuring.INLINE_SECONDS), None
    row = pipeline.sample(1)
    seconds = measuring.fastest(lambda: (pipeline.encode(row), pipeline.decode(outputs)))
    return measured.with_more(seconds), pipeline.buckets(row)


def _own(engine: Engine) -> Engine:
    """The engine that takes its own tensors."""
    return engine.inner if isinstance(engine, Piped) else engine


def size_of(entry: VersionEntry) -> int:
    """The size in bytes of the smallest file that may serve a version: what it takes at least."""
    files = entry.manifest["files"]
    return min(int(files[candidate.file]["size"]) for candidate in catalog.candidates(entry.manifest))


def _path(entry: VersionEntry, file: str) -> Path:
    return artifacts.checked_path(
        tenant_id=entry.tenant_id, manifest=entry.manifest, manifest_seal=entry.manifest_seal, file=file
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
    found = _C_LIBRARY.mallinfo2()
    return int(found.uordblks + found.hblkhd)
