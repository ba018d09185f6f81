"""The LiteRT engine: its weights are packed by the C library, and its answers are those of a plain interpreter."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from inference.engines import litert_library
from inference.engines.base import Tensor, Tensors, Unwritten
from inference.engines.litert import LiteRT
from inference.engines.litert_library import PREPARE, Delegate, Failed, Library, TfLiteDelegate
from modelhub.signatures import Signature, TensorSpec

IMAGE = Signature((TensorSpec("image", "float32", (-1, 150, 150, 3)),), (TensorSpec("score", "float32", (-1, 1)),))
FOUR = Signature((TensorSpec("x", "float32", (-1, 4)),), (TensorSpec("y", "float32", (-1, 3)),))
MIXED = Signature(
    (TensorSpec("number", "float32", (-1, -1)), TensorSpec("more", "int32", (-1,))),
    (
        TensorSpec("total", "float32", (-1,)),
        TensorSpec("positive", "bool", (-1,)),
        TensorSpec("found", "float32", (-1,)),
    ),
)
SIGNATURES = {"tiny.tflite": FOUR, "cnn.int8.tflite": IMAGE, "cnn.fp32.tflite": IMAGE, "mixed.tflite": MIXED}
KERNEL_ERROR = 1  # kTfLiteError


@pytest.fixture
def opened_anew() -> Iterator[None]:
    """The library is opened by the test, and by the next one."""
    litert_library.library.cache_clear()
    yield
    litert_library.library.cache_clear()


def plain(path: Path, signature: Signature, monkeypatch: pytest.MonkeyPatch, threads: int = 1) -> LiteRT:
    with monkeypatch.context() as patched:
        patched.setattr(litert_library, "library", lambda: None)
        return LiteRT(path=path, signature=signature, threads=threads)


def some(signature: Signature, rows: int, others: int, seed: int) -> Tensors:
    """Numbers around zero; dimensions of any size beside the rows are `others`."""
    random = np.random.default_rng(seed)
    shapes = {
        spec.name: (rows, *(others if size < 0 else size for size in spec.shape[1:])) for spec in signature.inputs
    }
    return {spec.name: random.normal(size=shapes[spec.name]).astype(spec.numpy) for spec in signature.inputs}


def _copied(row: Tensor, into: Tensor) -> None:
    into[:] = row


@pytest.mark.parametrize("name", SIGNATURES)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_numbers_as_a_plain_interpreter(
    model_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, name: str, threads: int
) -> None:
    signature = SIGNATURES[name]
    assert litert_library.library() is not None
    engine = LiteRT(path=model_files[name], signature=signature, threads=threads)
    reference = plain(model_files[name], signature, monkeypatch, threads)
    for seed, (rows, others) in enumerate([(1, 1), (4, 3), (3, 3), (8, 2), (1, 7)]):
        inputs = some(signature, rows, others, seed)
        found, expected = engine.run(inputs), reference.run(inputs)
        assert {name: tensor.dtype for name, tensor in found.items()} == {
            spec.name: np.dtype(spec.numpy) for spec in signature.outputs
        }
        for output in expected:
            assert np.array_equal(found[output], expected[output]), (output, rows)


def test_rows_written_where_the_engine_reads_them_give_the_numbers_of_a_tensor(model_files: dict[str, Path]) -> None:
    engine, reference = (LiteRT(path=model_files["tiny.tflite"], signature=FOUR) for _ in range(2))
    (spec,) = FOUR.inputs
    for seed, rows in enumerate([1, 3, 3, 8, 2, 1]):
        given = some(FOUR, rows, 0, seed)
        found = engine.run_unwritten(Unwritten(spec, list(given["x"]), _copied))
        assert np.array_equal(found["y"], reference.run(given)["y"]), rows
        other = some(FOUR, 4, 0, 10 + seed)  # by turns with tensors, of other shapes and of the same
        assert np.array_equal(engine.run(other)["y"], reference.run(other)["y"]), rows


def test_after_rows_that_could_not_be_written_the_engine_answers(model_files: dict[str, Path]) -> None:
    def refuses(row: Tensor, into: Tensor) -> None:
        raise ValueError("not this row")

    engine = LiteRT(path=model_files["tiny.tflite"], signature=FOUR)
    given = some(FOUR, 2, 0, seed=0)
    expected = engine.run(given)["y"]
    with pytest.raises(ValueError, match="not this row") as kept:  # whose traceback has the interpreter's memory
        engine.run_unwritten(Unwritten(FOUR.inputs[0], list(given["x"]), refuses))
    assert np.array_equal(engine.run(given)["y"], expected)
    del kept


@pytest.mark.parametrize(("rows", "others"), [(0, 3), (4, 0)])
def test_empty_tensors(model_files: dict[str, Path], rows: int, others: int) -> None:
    engine = LiteRT(path=model_files["mixed.tflite"], signature=MIXED)
    engine.run(some(MIXED, 2, 2, seed=0))
    found = engine.run({"number": np.zeros((rows, others), np.float32), "more": np.ones(rows, np.int32)})
    assert found["total"].tolist() == found["found"].tolist() == [1.0] * rows


@pytest.mark.usefixtures("opened_anew")
def test_another_version_of_the_wheel_is_used_without_its_c_library(
    model_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litert_library, "VERSION", "2.2.9")
    assert litert_library.library() is None
    engine = LiteRT(path=model_files["tiny.tflite"], signature=FOUR)
    assert engine.run(some(FOUR, 2, 1, seed=0))["y"].shape == (2, 3)


@pytest.mark.usefixtures("opened_anew")
def test_a_library_without_a_function_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(litert_library.FUNCTIONS, "LiteRtThatIsNotThere", ())
    assert litert_library.library() is None


@pytest.mark.usefixtures("opened_anew")
def test_an_accelerator_of_another_layout_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert_library.LiteRtAcceleratorDef, "SIZE", 208)
    assert litert_library.library() is None


class Refusing(Library):
    """Its delegates refuse every file, or cannot be made."""

    def __init__(self, *, made: bool) -> None:
        super().__init__()
        self._are_made = made
        self._refuse = PREPARE(lambda context, delegate: KERNEL_ERROR)

    def delegate(self, threads: int) -> Delegate:
        if not self._are_made:
            raise Failed("create_delegate: 3")
        delegate = super().delegate(threads)
        fields = TfLiteDelegate.from_address(delegate._get_native_delegate_pointer() or 0)
        fields.Prepare = litert_library._address(self._refuse)
        return delegate


@pytest.mark.parametrize("made", [True, False])
def test_what_the_delegate_refuses_runs_by_the_interpreters_own(
    model_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    reference = LiteRT(path=model_files["tiny.tflite"], signature=FOUR)
    library = Refusing(made=made)
    monkeypatch.setattr(litert_library, "library", lambda: library)
    inputs = some(FOUR, 3, 1, seed=0)
    found = LiteRT(path=model_files["tiny.tflite"], signature=FOUR).run(inputs)
    assert np.array_equal(found["y"], reference.run(inputs)["y"])


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.tflite"
    path.write_bytes(b"not a model" * 100)
    with pytest.raises(ValueError, match="not a valid"):
        LiteRT(path=path, signature=FOUR)
