"""Run by test_memory.py in a process of its own: load and unload over and over, and print how the memory went.

`python -m tests.inference.load_cycles CYCLES ENGINE=FILE…`: the process's resident megabytes after a fifth of the
cycles, and at their end.
"""

import ctypes
import gc
import json
import sys
from pathlib import Path

import psutil

from inference.engines.base import Tensors
from inference.engines.catalog import ENGINES
from inference.engines.measuring import Asked
from modelhub.signatures import Signature, TensorSpec

SIGNATURES = {
    4: Signature((TensorSpec("x", "float32", (-1, 4)),), (TensorSpec("y", "float32", (-1, 4)),)),
    3: Signature((TensorSpec("image", "float32", (-1, 150, 150, 3)),), (TensorSpec("score", "float32", (-1, 1)),)),
}


def cycle(engine_name: str, path: Path) -> None:
    signature = SIGNATURES[3 if "cnn" in path.name else 4]
    for threads in (1, 2):
        engine = ENGINES[engine_name](path=path, signature=signature, threads=threads)
        inputs: Tensors = Asked(signature).inputs(4)
        engine.run(inputs)
        engine.close()


def resident() -> float:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return float(psutil.Process().memory_info().rss / 1e6)


def main() -> None:
    cycles = int(sys.argv[1])
    files = [(name, Path(path)) for name, _, path in (one.partition("=") for one in sys.argv[2:])]
    warm = 0.0
    for number in range(cycles):
        if number == cycles // 5:
            warm = resident()
        cycle(*files[number % len(files)])
    print(json.dumps({"warm": warm, "end": resident()}))


main()
