"""Unloading gives the memory back: 500 cycles of loading, running and letting go leave the process as it was."""

import json
import subprocess
import sys
from pathlib import Path

from tests.inference.conftest import slow
from tests.live import ROOT

CYCLES = 500


def test_five_hundred_cycles_do_not_grow(model_files: dict[str, Path], tmp_path: Path) -> None:
    files = [
        f"litert={model_files['identity.tflite']}",
        f"litert={model_files['cnn.int8.tflite']}",
        f"onnx={slow(tmp_path / 'slow.onnx', answer=1.0)}",
    ]
    command = [sys.executable, "-m", "tests.inference.load_cycles", str(CYCLES), *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["end"] <= found["warm"] * 1.05, found
