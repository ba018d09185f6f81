"""A version of the recipe `translator` over HTTP: one text and several, through every protocol, and as events."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from inference.engines.seq2seq import Seq2Seq
from modelhub import recipes, subwords
from modelhub.recipes.translation.recipe import ENGINE_SIGNATURE, SIGNATURE, VOCABULARY, TranslationPipeline
from modelhub.subwords import Subwords
from tests.inference.conftest import PlaneSite
from tests.modelhub import translators
from tests.publishing import publish

SENTENCE = "the cat sat on a mat and the dog ran to the old house by the sea"
WORDS = SENTENCE.split()
URL = "/api/v1/deployments/translations/predict"
USUAL = "the cat sat on a mat"


@dataclass(frozen=True, slots=True)
class Served:
    """A translator that has learned nothing, as it is deployed and as it is here."""

    site: PlaneSite
    pipeline: TranslationPipeline
    engine: Seq2Seq

    def answer(self, text: str) -> dict[str, Any]:
        """What this text's translation ought to be."""
        given = np.array([text.encode()], object)
        outputs = self.pipeline.decode(self.engine.run(self.pipeline.encode({"text": given})))
        return self.pipeline.answer({name: tensor[0] for name, tensor in outputs.items()})


@pytest.fixture(scope="module")
def served(plane: PlaneSite, tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder: Path = tmp_path_factory.mktemp("translator")
    random = np.random.default_rng(0)
    learned = subwords.learn((" ".join(random.choice(WORDS, 8)) for _ in range(200)), size=320)
    (folder / VOCABULARY).write_bytes(learned)
    sizes = replace(translators.SIZES, vocabulary=len(Subwords(learned)))
    translators.bundle(folder, translators.weights(0, sizes), sizes)
    preprocessing = {"kind": "subwords", "file": VOCABULARY, "max_tokens": 40, "usual": USUAL}
    publish(
        plane.site, tenant="acme", model="translations", deployment="translations", path=folder / translators.NAME,
        more_files=[folder / VOCABULARY], recipe="translator", engine="seq2seq", preprocessing=preprocessing,
        inputs=_tensors(SIGNATURE.inputs), outputs=_tensors(SIGNATURE.outputs), labels=[], decision={},
        serving={"tensors": ENGINE_SIGNATURE.as_json(), "typical": {"tokens": [8]}},
    )  # fmt: skip
    recipe: Any = recipes.get("translator")
    pipeline = recipe.pipeline({"preprocessing": preprocessing}, lambda name: folder / name)
    return Served(plane, pipeline, Seq2Seq(path=folder / translators.NAME, signature=ENGINE_SIGNATURE))


def _tensors(specs: Any) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(spec.name, spec.dtype, spec.shape) for spec in specs]


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with served.site.client() as found:
        yield found


def test_a_text_in_and_its_translation_out(client: httpx.Client, served: Served) -> None:
    answer = client.post(URL, content="the dog ran", headers={"content-type": "text/plain"})
    assert answer.status_code == 200, answer.text
    found, expected = answer.json(), served.answer("the dog ran")
    assert found["translation"] == expected["translation"] != ""
    assert found["score"] == pytest.approx(expected["score"], abs=1e-3)


def test_several_texts_of_different_lengths_in_one_request(client: httpx.Client, served: Served) -> None:
    given = ["the dog ran", "sea", " ".join(WORDS[:9])]
    found = client.post(URL, json={"instances": given}).json()["predictions"]
    assert [one["translation"] for one in found] == [served.answer(text)["translation"] for text in given]


def test_through_the_other_protocols(client: httpx.Client, served: Served) -> None:
    expected = served.answer("the old house")
    found = client.post("/v1/models/translations:predict", json={"instances": ["the old house"]}).json()
    ((translation, score),) = [(one["translation"], one["score"]) for one in found["predictions"]]
    assert (translation, score) == (expected["translation"], pytest.approx(expected["score"], abs=1e-3))
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["the old house"]}
    outputs = client.post("/v2/models/translations/infer", json={"inputs": [tensor]}).json()["outputs"]
    assert {one["name"]: one["datatype"] for one in outputs} == {"translation": "BYTES", "score": "FP32"}
    assert outputs[0]["data"] == [expected["translation"]]


def test_a_translation_comes_piece_by_piece(client: httpx.Client, served: Served) -> None:
    headers = {"content-type": "text/plain", "accept": "text/event-stream"}
    answer = client.post(URL, content="the cat sat on a mat", headers=headers)
    events = [event.split("\n") for event in answer.text.strip().split("\n\n")]
    names = [name.removeprefix("event: ") for name, _ in events]
    assert set(names[:-1]) <= {"partial"}
    assert names[-1] == "result"
    last = json.loads(events[-1][1].removeprefix("data: "))
    assert last["translation"] == served.answer("the cat sat on a mat")["translation"]


def test_what_cannot_be_translated_is_refused_with_its_row(client: httpx.Client) -> None:
    long = client.post(URL, json={"instances": ["sea", "xyz" * 40]})
    assert (long.status_code, "Row 1: The text is too long" in long.json()["detail"]) == (400, True)
    empty = client.post(URL, json={"instances": [" "]})
    assert (empty.status_code, "The text is empty" in empty.json()["detail"]) == (400, True)
