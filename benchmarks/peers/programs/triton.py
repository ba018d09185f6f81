"""Triton: the bare `tritonserver` with a repository for its Python backend, an instance process for each worker."""

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

from pytriton.utils.distribution import get_root_module_path, get_stub_path

from benchmarks.peers.programs import asked

ASKED = asked.read()
MODELS = {
    "tiny": (("tiny", "x", "TYPE_FP32", "4", 3),),
    "cnn": (("jpeg", "jpeg", "TYPE_STRING", "1", 1), ("tensor", "image", "TYPE_UINT8", "150, 150, 3", 1)),
}
CONFIG = """
backend: "python"
max_batch_size: {batch}
input [{{ name: "{given}" data_type: {kind} dims: [{shape}] }}]
output [{{ name: "scores" data_type: TYPE_FP32 dims: [{scores}] }}]
instance_group [{{ kind: KIND_CPU count: {workers} }}]
{batching}
"""
MODEL = "from benchmarks.peers.programs.triton_model import TritonPythonModel\n"


def main() -> None:
    """Writes the repository and becomes the server."""
    work = Path(tempfile.mkdtemp(prefix="triton-", dir=ASKED.file.parent))
    for name, given, kind, shape, scores in MODELS[ASKED.model]:
        folder = work / "models" / name
        (folder / "1").mkdir(parents=True)
        (folder / "1" / "model.py").write_text(MODEL)
        (folder / "config.pbtxt").write_text(
            CONFIG.format(
                batch=ASKED.batch,
                given=given,
                kind=kind,
                shape=shape,
                scores=scores,
                workers=ASKED.workers,
                batching=f"dynamic_batching {{ max_queue_delay_microseconds: {ASKED.wait_ms * 1000} }}"
                if ASKED.batch > 1
                else "",
            )
        )
    server = get_root_module_path() / "tritonserver"
    libraries = os.pathsep.join([str(get_root_module_path().parent / "nvidia_pytriton.libs"), _python_library()])
    command = [
        str(server / "bin" / "tritonserver"),
        f"--model-repository={work / 'models'}",
        f"--backend-directory={_backends(server, work)}",
        f"--http-port={ASKED.port}",
        "--http-address=127.0.0.1",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--log-info=false",
    ]
    environment = os.environ | {
        # The backend embeds a Python: this one, with what is installed beside this program.
        "PYTHONHOME": sys.base_prefix,
        "PYTHONPATH": os.pathsep.join([str(Path.cwd()), sysconfig.get_path("purelib")]),
        "LD_LIBRARY_PATH": libraries,
    }
    os.execve(command[0], command, environment)


def _backends(server: Path, work: Path) -> Path:
    """A copy of the Python backend with the stub for this version of Python, which the wheel keeps elsewhere."""
    copied = work / "backends"
    shutil.copytree(server / "backends", copied)
    stub = get_stub_path(f"{sys.version_info.major}.{sys.version_info.minor}")
    shutil.copy(stub, copied / "python" / "triton_python_backend_stub")
    return copied


def _python_library() -> str:
    return str(sysconfig.get_config_var("LIBDIR"))


if __name__ == "__main__":
    main()
