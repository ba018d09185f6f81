"""The engine `seq2seq`: a bundle behind the tensors of its signature."""

from pathlib import Path

import numpy as np
import pytest

from inference.engines import catalog, measuring
from inference.engines.seq2seq import Seq2Seq
from modelhub.recipes.translation.recipe import ENGINE_SIGNATURE
from modelhub.signatures import Signature, TensorSpec
from tests.modelhub import translators


def test_it_translates_as_its_bundle_does(tmp_path: Path) -> None:
    bundle = translators.bundle(tmp_path, translators.weights(0))
    tokens, lengths = translators.together(translators.sources(0))
    expected = bundle.translate(tokens, lengths)
    for threads in (1, 2):
        engine = Seq2Seq(path=tmp_path / translators.NAME, signature=ENGINE_SIGNATURE, threads=threads)
        found = engine.run({"tokens": tokens, "lengths": lengths})
        assert found.keys() == {spec.name for spec in ENGINE_SIGNATURE.outputs}
        for spec in ENGINE_SIGNATURE.outputs:
            assert found[spec.name].dtype == spec.numpy
        assert np.array_equal(found["tokens"], expected.tokens)
        assert np.array_equal(found["lengths"], expected.lengths)
        *_, last = engine.steps({"tokens": tokens, "lengths": lengths})
        assert np.array_equal(last["tokens"], expected.tokens)
        engine.close()


def test_a_signature_of_other_tensors_is_refused(tmp_path: Path) -> None:
    translators.bundle(tmp_path, translators.weights(0))
    other = Signature((TensorSpec("x", "float32", (-1, 4)),), ENGINE_SIGNATURE.outputs)
    with pytest.raises(ValueError, match="The inputs are tokens, lengths; the signature names"):
        Seq2Seq(path=tmp_path / translators.NAME, signature=other)


def test_it_is_in_the_catalog() -> None:
    (candidate,) = catalog.candidates({"serving": {"engine": "seq2seq", "file": translators.NAME}})
    assert candidate == measuring.Candidate("seq2seq", translators.NAME)
    assert catalog.ENGINES[candidate.engine] is Seq2Seq
