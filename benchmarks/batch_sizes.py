"""Whether the best batch of the seed CNN comes out the same each time it is measured on this host.

`python -m benchmarks batch_sizes` prints each measurement, and how often each batch size was the best, the short one in
company, and how many threads a lone row gets.
"""

import tempfile
from collections import Counter
from pathlib import Path

from benchmarks import models
from benchmarks.engines import SIGNATURE
from inference.engines import measuring, measuring_process
from inference.engines.measuring import Asked, Candidate

TIMES = 25
FILE = "cnn.int8.tflite"


def main() -> None:
    candidate = Candidate("litert", FILE)
    chosen: Counter[tuple[int, int, int]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        paths = {candidate: models.made(Path(folder), FILE)[FILE]}
        for _ in range(TIMES):
            found = measuring.chosen(measuring_process.measure(paths, Asked(SIGNATURE)))
            print(found, flush=True)
            chosen[found.best_rows, found.short_rows, found.alone_threads] += 1
    print(f"of {TIMES} times:")
    for (rows, short, threads), times in chosen.most_common():
        print(f"  {times:>2}: {rows} rows, in company {short}; a lone row on {threads} threads")


if __name__ == "__main__":
    main()
