"""Which engine serves: what follows from times; a version's candidates are measured once for a kind of host."""

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from django.contrib.admin import site
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, save

from benchmarks import models
from inference.admin.measurements import EngineMeasurementAdmin
from inference.engines import measuring, measuring_process
from inference.engines.base import Tensor, Tensors
from inference.engines.measuring import BATCH_SIZES, Asked, Candidate, NothingRuns, Times
from inference.models import EngineMeasurement
from modelhub.signatures import Signature, TensorSpec
from tests.inference.conftest import PlaneSite
from tests.inference.works import Doubling
from tests.publishing import CNN, TINY, publish

MS = 1e-3
SECONDS = st.floats(1e-6, 1.0)
TABLES = st.lists(
    st.dictionaries(st.sampled_from([1, 2, 4]), st.fixed_dictionaries(dict.fromkeys(BATCH_SIZES, SECONDS)), min_size=1)
    .filter(lambda by_threads: 1 in by_threads)
    .map(lambda by_threads: Times(Candidate("e", str(sorted(by_threads[1].values()))), by_threads, besides=0.3 * MS)),
    min_size=1,
    max_size=4,
)


FOUR_IN_FOUR_OUT = Signature((TensorSpec("x", "float32", (-1, 4)),), (TensorSpec("y", "float32", (-1, 4)),))


def times(name: str, *, one: float, four: float, lone_by_two: float = 1.0) -> Times:
    """A candidate's times in milliseconds: of 1 and 4 rows on one thread, and of 1 row on two."""
    seconds = {1: {1: one * MS, 4: four * MS}, 2: {1: lone_by_two * MS, 4: four * MS}}
    return Times(Candidate("e", name), seconds, besides=0.5 * MS)


@given(TABLES)
def test_the_winner_has_nearly_the_most_rows_a_second(table: list[Times]) -> None:
    found = measuring.chosen(table)
    best = max(measuring.judged(one).rows_per_second for one in table)
    assert found.rows_per_second >= measuring.AS_GOOD * best
    assert found.best_rows in BATCH_SIZES
    assert found.best_rows == 1 or found.seconds[found.best_rows] <= measuring.longest(found.seconds)
    assert measuring.longest(found.seconds) >= measuring.LONGEST_BATCH_SECONDS


@given(TABLES)
def test_a_table_is_kept_as_it_was_measured(table: list[Times]) -> None:
    kept = measuring.from_json(measuring.as_json(table))
    assert [one.candidate for one in kept] == [one.candidate for one in table]
    for one, other in zip(kept, table, strict=True):
        for threads, seconds in other.seconds.items():
            assert one.seconds[threads] == pytest.approx(seconds, abs=1e-7)
        assert one.besides == other.besides


def test_the_faster_candidate_serves_with_its_best_batch() -> None:
    found = measuring.chosen([times("slow", one=2, four=6), times("fast", one=1, four=2)])
    assert (found.candidate.file, found.best_rows, found.alone_threads) == ("fast", 4, 1)


def test_of_two_that_are_as_good_the_one_that_answers_a_lone_row_sooner_serves() -> None:
    table = [times("first", one=2, four=2, lone_by_two=2), times("second", one=2, four=2.05, lone_by_two=0.5)]
    found = measuring.chosen(table)
    assert (found.candidate.file, found.alone_threads, found.alone_seconds) == ("second", 2, 0.5 * MS)


def test_a_model_that_is_slow_by_itself_may_batch_for_as_long_as_a_few_lone_rows_take() -> None:
    assert measuring.chosen([times("slow", one=20, four=60)]).best_rows == 4
    assert measuring.chosen([times("slow", one=20, four=90)]).best_rows == 1
    assert measuring.chosen([times("quick", one=4.9, four=19.95)]).best_rows == 4
    assert measuring.chosen([times("quick", one=4.9, four=20.05)]).best_rows == 1


def test_a_short_batch_is_the_smallest_that_has_nearly_the_best_throughput() -> None:
    assert measuring.chosen([times("by rows", one=2, four=7.6)]).short_rows == 1
    assert measuring.chosen([times("at once", one=2, four=4)]).short_rows == 4
    # A hop for one row of 0.1 ms costs more than the row, so that one alone is not nearly as good.
    assert measuring.chosen([times("quick", one=0.1, four=0.4)]).short_rows == 4


def test_of_what_waits_the_fewest_run_together_that_are_as_good_as_any() -> None:
    """The seed CNN on an EPYC, where the dense layer computes up to five rows at once."""
    sizes = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24)
    took = (0.64, 1.03, 1.31, 1.64, 1.97, 2.75, 3.06, 3.32, 3.9, 4.76, 6.25, 9.5)
    seconds = {rows: ms * MS for rows, ms in zip(sizes, took, strict=True)}
    quick = measuring.chosen([Times(Candidate("e", "f"), {1: seconds}, besides=0.15 * MS)])
    assert quick.batches == (1, 2, 3, 4, *[5] * 11, 10)
    assert quick.best_rows == 16
    slow = measuring.chosen([Times(Candidate("e", "f"), {1: seconds}, besides=1.0 * MS)])
    assert slow.batches == (1, 2, 3, 4, 5, 5, 5, 8, 8, *[10] * 6, 16)


def test_what_a_batch_costs_besides_is_what_a_thread_takes_longer_that_is_woken_for_it() -> None:
    engine, own = Doubling(), threading.get_ident()

    class Elsewhere(Doubling):
        def run(self, inputs: Tensors) -> dict[str, Tensor]:
            time.sleep(0.4 * MS if threading.get_ident() == own else 1.0 * MS)
            return engine.run(inputs)

    candidate = Candidate("e", "f")
    (found,) = measuring.measure([candidate], lambda *_: Elsewhere(), Asked(FOUR_IN_FOUR_OUT))
    assert 0.5 * MS < found.besides < 1.0 * MS
    (found,) = measuring.measure([candidate], lambda *_: engine, Asked(FOUR_IN_FOUR_OUT))
    assert measuring.LEAST_BESIDES <= found.besides < 0.5 * MS


@pytest.mark.parametrize(("long_pass", "passes"), [(measuring.LONG_PASS_SECONDS, measuring.PASSES), (0.0, 1)])
def test_what_is_slow_is_timed_in_one_pass(monkeypatch: pytest.MonkeyPatch, long_pass: float, passes: int) -> None:
    monkeypatch.setattr(measuring, "LONG_PASS_SECONDS", long_pass)
    timed = 0

    def fastest(run: object, **how_long: float) -> float:
        nonlocal timed
        timed += 1
        return MS

    monkeypatch.setattr(measuring, "fastest", fastest)
    assert measuring.best_rows(Doubling(), Asked(FOUR_IN_FOUR_OUT)) == BATCH_SIZES[-1]
    assert timed == passes * len(BATCH_SIZES)


# How slow the host is in each pass, and sizes on which a slow moment falls, each in another pass.
PHASES = st.lists(st.floats(1, 1.4), min_size=measuring.PASSES, max_size=measuring.PASSES)
MOMENTS = st.lists(st.sampled_from(BATCH_SIZES), max_size=2)


@given(PHASES, MOMENTS)
def test_a_host_that_is_now_quick_now_slow_does_not_change_the_best_batch(
    phases: list[float], moments: list[int]
) -> None:
    """8 rows cost twice what 4 cost, as of the seed CNN on a Xeon: what a batch costs besides speaks for 8.

    More rows are a little dearer, and in slow moments longer than a batch may be.
    """
    quiet = {1: 1.6 * MS, 2: 2.4 * MS, 4: 4.2 * MS, 8: 8.4 * MS, 16: 17.2 * MS, 32: 35.2 * MS}
    pass_number = -1

    def fastest(run: Callable[[], dict[str, Tensor]], **how_long: float) -> float:
        nonlocal pass_number
        rows = len(run()["y"])
        pass_number += rows == 1
        slow = dict(enumerate(moments)).get(pass_number) == rows
        return quiet[rows] * phases[pass_number] * (1.5 if slow else 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "fastest", fastest)
        patch.setattr(measuring, "LONG_PASS_SECONDS", math.inf)
        patch.setattr(measuring, "_besides", lambda *_: 0.5 * MS)
        assert measuring.best_rows(Doubling(), Asked(FOUR_IN_FOUR_OUT)) == 8
    assert pass_number == measuring.PASSES - 1


def test_what_its_pipeline_costs_is_part_of_a_row() -> None:
    quick = measuring.chosen([times("quick", one=0.01, four=0.08)])
    assert (quick.inline, quick.best_rows) == (True, 4)
    slow = quick.with_more(5 * MS)
    assert (slow.inline, slow.best_rows) == (False, 1)
    assert slow.alone_seconds == pytest.approx(5.01 * MS)
    assert slow.seconds[4] == pytest.approx(20.08 * MS)


def test_blank_tensors_have_the_usual_sizes_and_a_usual_row_is_repeated() -> None:
    signature = Signature((TensorSpec("tokens", "int64", (-1, -1, 3, -1)),), ())
    assert Asked(signature, typical={"tokens": [16]}).inputs(2)["tokens"].shape == (2, 16, 3, 1)
    assert Asked(signature, batched=False, typical={"tokens": [5, 16]}).inputs(2)["tokens"].shape == (5, 16, 3, 1)
    row = np.arange(4).reshape(1, 4)
    assert Asked(signature, row={"tokens": row}).inputs(3)["tokens"].tolist() == [[0, 1, 2, 3]] * 3


def test_a_usual_row_reaches_the_process_that_measures(tmp_path: Path) -> None:
    """The file is large enough for a process of its own, and takes no other length than the row's."""
    size = 600
    stored = numpy_helper.from_array(np.zeros((size, size), np.float32), "weights")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", "length"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "weights"], ["y"])], "g", ends[:1], ends[1:], [stored])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").stat().st_size > measuring_process.SMALL_BYTES
    signature = Signature((TensorSpec("x", "float32", (-1, -1)),), (TensorSpec("y", "float32", (-1, -1)),))
    paths = {Candidate("onnx", "m.onnx"): tmp_path / "m.onnx"}
    row = {"x": np.ones((1, size), np.float32)}
    (found,) = measuring_process.measure(paths, Asked(signature, row=row))
    assert found.seconds.keys() == set(measuring.thread_counts())
    (blank,) = measuring_process.measure(paths, Asked(signature))
    assert blank.error


def test_what_does_not_run_here_is_left_out_and_named() -> None:
    broken = Times(Candidate("e", "broken"), {}, "ValueError: no such operation")
    assert measuring.chosen([broken, times("runs", one=1, four=2)]).candidate.file == "runs"
    with pytest.raises(NothingRuns, match="broken: ValueError: no such operation"):
        measuring.chosen([broken])


def test_the_admin_shows_the_table_and_what_does_not_run() -> None:
    broken = Times(Candidate("e", "broken"), {}, "ValueError: <script>")
    row = EngineMeasurement(table=measuring.as_json([times("fast", one=1, four=2), broken]))
    page = EngineMeasurementAdmin(EngineMeasurement, site).times(row)
    assert "<th>1</th><th>4</th>" in page
    assert "<td>e fast</td><td>1</td><td>1.0</td><td>2.0</td>" in page
    assert "<p>e broken: ValueError: &lt;script&gt;</p>" in page


@pytest.fixture(scope="module")
def cnn_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return models.made(tmp_path_factory.mktemp("cnn"), "cnn.int8.tflite", "cnn.fp32.tflite", "cnn.onnx")


LOADED = """
import json
from inference.models import EngineMeasurement
from tenants import scoping
with scoping.operator():
    rows = EngineMeasurement.across_tenants.filter(version__model__name="chosen")
    print(json.dumps([str(row.measured_at) for row in rows]))
"""


@pytest.fixture(scope="module")
def chosen(plane: PlaneSite, cnn_files: dict[str, Path]) -> PlaneSite:
    """The plane with `chosen`, a version with three candidates and a fourth that runs nowhere."""
    broken = cnn_files["cnn.onnx"].with_name("broken.onnx")
    broken.write_bytes(b"no model")
    candidates = [
        {"engine": "litert" if path.suffix == ".tflite" else "onnx", "file": path.name}
        for path in (*cnn_files.values(), broken)
    ]
    publish(
        plane.site, tenant="acme", model="chosen", path=cnn_files["cnn.int8.tflite"], deployment="chosen",
        more_files=[*cnn_files.values(), broken], **CNN | {"serving": {"candidates": candidates}},
    )  # fmt: skip
    with plane.client() as client:
        assert client.post("/v1/models/chosen:predict", json={"instances": []}).status_code == 200
    return plane


def test_the_candidates_of_a_version_are_measured_and_shown(chosen: PlaneSite) -> None:
    with chosen.client() as client:
        (found,) = client.get("/api/v1/models/chosen/versions/1/measurements").json()["results"]
    by_file = {one["file"]: one for one in found["table"]}
    assert by_file.keys() == {"cnn.int8.tflite", "cnn.fp32.tflite", "cnn.onnx", "broken.onnx"}
    assert by_file["broken.onnx"]["error"]
    for name in by_file.keys() - {"broken.onnx"}:
        by_threads = by_file[name]["milliseconds_by_threads_and_batch"]
        assert by_threads.keys() == {str(count) for count in measuring.thread_counts()}
        for threads, by_rows in by_threads.items():  # up to the first batch that is too long to be served
            assert by_rows
            sizes = measuring.SIZES_OF_ONE_THREAD if threads == "1" else BATCH_SIZES
            assert by_rows.keys() == {str(rows) for rows in sizes[: len(by_rows)]}
    best = measuring.chosen(measuring.from_json(found["table"]))
    assert (found["engine"], found["file"]) == (best.candidate.engine, best.candidate.file)
    assert found["best_batch"] == best.best_rows
    with chosen.client(chosen.globex_key) as client:
        assert client.get("/api/v1/models/chosen/versions/1/measurements").status_code == 404


def test_what_was_measured_once_is_not_measured_again(chosen: PlaneSite) -> None:
    before = chosen.site.python(LOADED)
    with chosen.client() as client:
        assert client.post("/v2/repository/models/chosen/unload").status_code == 200
        assert client.post("/v1/models/chosen:predict", json={"instances": []}).status_code == 200
    assert chosen.site.python(LOADED) == before
    assert len(before) == 1


BUSY = """
from datetime import timedelta
from inference.models import EngineMeasurement
from tenants import scoping
with scoping.operator():
    for row in EngineMeasurement.across_tenants.filter(version__model__name="chosen"):
        row.disturbance, row.measured_at = {disturbance}, row.measured_at - timedelta(hours=1)
        row.save()
print(1)
"""


@pytest.mark.parametrize(("disturbance", "again"), [(1.0, False), (2.0, True)])
def test_what_was_measured_on_a_busy_host_is_measured_again(chosen: PlaneSite, disturbance: float, again: bool) -> None:
    chosen.site.python(BUSY.format(disturbance=disturbance))
    before = chosen.site.python(LOADED)
    with chosen.client() as client:
        assert client.post("/v2/repository/models/chosen/unload").status_code == 200
        assert client.post("/v1/models/chosen:predict", json={"instances": []}).status_code == 200
    assert (chosen.site.python(LOADED) != before) == again


def test_a_version_without_candidates_is_measured_as_it_is(plane: PlaneSite) -> None:
    publish(plane.site, tenant="acme", model="lone", path=plane.files["tiny.tflite"], deployment="lone", **TINY)
    with plane.client() as client:
        assert client.post("/v1/models/lone:predict", json={"instances": [[0, 0, 0, 0]]}).status_code == 200
        (found,) = client.get("/api/v1/models/lone/versions/1/measurements").json()["results"]
    assert [(one["engine"], one["file"]) for one in found["table"]] == [("litert", "tiny.tflite")]
