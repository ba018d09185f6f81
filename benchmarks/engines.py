"""The seed CNN on every engine: milliseconds by threads and batch size, and which one a host would choose.

The same measurement that a version gets when it is first loaded on a kind of host. Writes
`benchmarks/results/engines.json`. Takes half a minute, most of which is TensorFlow's start.
"""

import json
import tempfile
from pathlib import Path

from benchmarks import models
from inference.engines import measuring
from inference.engines.base import Engine
from inference.engines.catalog import ENGINES
from inference.engines.measuring import Asked, Candidate
from modelhub.signatures import Signature, TensorSpec

FILES = {
    "cnn.int8.tflite": "litert",
    "cnn.fp32.tflite": "litert",
    "cnn.onnx": "onnx",
    "cnn.savedmodel.zip": "savedmodel",
}
SIGNATURE = Signature((TensorSpec("image", "float32", (-1, 150, 150, 3)),), (TensorSpec("score", "float32", (-1, 1)),))
SIZES = measuring.SIZES_OF_ONE_THREAD
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        paths = models.made(Path(scratch), *FILES)

        def make(candidate: Candidate, threads: int) -> Engine:
            return ENGINES[candidate.engine](path=paths[candidate.file], signature=SIGNATURE, threads=threads)

        candidates = [Candidate(engine, file) for file, engine in FILES.items()]
        before = measuring.disturbance()
        table = measuring.measure(candidates, make, Asked(SIGNATURE))
        disturbance = max(before, measuring.disturbance())
    print(f"{'ms by rows':18} {'threads':>7}" + "".join(f"{rows:>7}" for rows in SIZES))
    for times in table:
        for threads, by_rows in times.seconds.items():
            row = "".join(f"{by_rows[rows] * 1e3:7.2f}" if rows in by_rows else " " * 7 for rows in SIZES)
            print(f"{times.candidate.file:18} {threads:7}{row}")
        if times.error:
            print(f"{times.candidate.file:22} {times.error}")
    found = measuring.chosen(table)
    print(f"serves here: {found}; where 1, 2 … rows wait, {found.batches} are run together")
    RESULTS.mkdir(exist_ok=True)
    print(f"disturbance {disturbance:.2f} (1 on a quiet host)")
    about = {
        "host": measuring.host(),
        "disturbance": round(disturbance, 2),
        "serves": str(found.candidate),
        "table": measuring.as_json(table),
    }
    (RESULTS / "engines.json").write_text(json.dumps(about, indent=1))
    print(f"written to {RESULTS.name}/engines.json")


if __name__ == "__main__":
    main()
