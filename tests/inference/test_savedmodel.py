"""SavedModels are run by TensorFlow in processes of their own: any tensors; a death is mended, an end frees."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks import models
from inference.engines.base import EngineGone
from inference.engines.savedmodel import MODULE, SavedModel
from modelhub import priority
from modelhub.signatures import Signature, TensorSpec
from tests.inference.conftest import PlaneSite
from tests.publishing import TINY, publish

INPUTS = [("text", "bytes", (-1, -1)), ("number", "float32", (-1,))]
OUTPUTS = [("upper", "bytes", (-1, -1)), ("length", "int32", (-1, -1)), ("doubled", "float32", (-1,))]
SIGNATURE = Signature(
    tuple(TensorSpec(*one) for one in INPUTS), tuple(TensorSpec(*one) for one in OUTPUTS)
)  # fmt: skip
ASKED = {"instances": [{"text": ["ab", "ç"], "number": 1.5}, {"text": ["", "x"], "number": 2}]}
ANSWERED = [
    {"upper": ["AB", "ç"], "length": [2, 2], "doubled": 3.0},
    {"upper": ["", "X"], "length": [0, 1], "doubled": 4.0},
]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.made(tmp_path_factory.mktemp("words"), "words.savedmodel.zip")["words.savedmodel.zip"]


@pytest.fixture
def engine(words: Path) -> Iterator[SavedModel]:
    found = SavedModel(path=words, signature=SIGNATURE)
    yield found
    found.close()


def inputs(*texts: str) -> dict[str, np.ndarray]:
    return {"text": np.array([[one.encode() for one in texts]], object), "number": np.array([1.5], np.float32)}


def test_texts_and_numbers_go_in_and_out(engine: SavedModel) -> None:
    outputs = engine.run(inputs("ab", "ç"))
    assert outputs["upper"].tolist() == [[b"AB", "ç".encode()]]
    assert outputs["length"].tolist() == [[2, 2]]
    assert outputs["doubled"].tolist() == [3.0]
    assert engine.outside_bytes > 50e6


def test_an_engine_whose_process_died_says_so_and_goes(engine: SavedModel) -> None:
    os.kill(engine._process.pid, signal.SIGKILL)
    for _ in range(3):  # whichever line it takes
        with pytest.raises(EngineGone):
            engine.run(inputs("x"))
    assert engine.gone


def test_an_engine_that_nobody_holds_ends_its_process(words: Path) -> None:
    found = SavedModel(path=words, signature=SIGNATURE)
    process = psutil.Process(found._process.pid)
    del found
    assert not process.is_running()


def test_a_file_that_is_no_saved_model_is_refused_with_words(tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="BadZipFile"):
        SavedModel(path=tmp_path / "no.zip", signature=SIGNATURE)


def test_the_plane_serves_it_and_outlives_its_death(plane: PlaneSite, words: Path) -> None:
    about = TINY | {"engine": "savedmodel", "inputs": INPUTS, "outputs": OUTPUTS}
    publish(plane.site, tenant="acme", model="words", path=words, deployment="words", **about)
    with plane.client() as client:
        for killed in (True, False):
            answer = client.post("/v1/models/words:predict", json=ASKED)
            assert (answer.status_code, answer.json()) == (200, {"predictions": ANSWERED})
            for child in running(plane):
                # As the thread that started it.
                assert child.nice() == psutil.Process().nice() + priority.ENGINES
                if killed:
                    child.kill()
            if killed:
                assert client.post("/v1/models/words:predict", json=ASKED).status_code == 503
        client.delete("/api/v1/deployments/words")
        deadline = time.monotonic() + 10
        while running(plane):
            assert time.monotonic() < deadline, "the process outlives its deployment"
            time.sleep(0.1)


def running(plane: PlaneSite) -> list[psutil.Process]:
    """The processes of the plane's SavedModels."""
    children = [
        child
        for server in plane.site.processes
        if server.poll() is None
        for child in psutil.Process(server.pid).children(recursive=True)
    ]
    return [one for one in children if one.is_running() and MODULE in one.cmdline()]
