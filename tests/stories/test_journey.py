"""A customer's whole journey over HTTP on a live site, as `manage.py demo` and `manage.py up --demo` walk it."""

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from aiaas_site import drawings
from tests.foreground import Foreground, gone, manage, until, var_folder

pytestmark = pytest.mark.slow
# The same commands on a tenth of the pictures: what is trained here need not be good.
SMALL = (
    "-c",
    """
from functools import partial
from aiaas_site import materials
materials.drawn = partial(materials.drawn, train=48, validation=16)
from manage import main
main()
""",
)


@pytest.fixture(scope="module")
def var() -> Iterator[Path]:
    """The tests of this module go on from each other's `var`, as an operator would."""
    with var_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A customer's folder: pictures, and one file that is none."""
    folder = tmp_path_factory.mktemp("pets")
    for picture in drawings.drawings(train=48, validation=16):
        file = folder / picture.name.replace("not_cat", "thing")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture.data)
    (folder / "train" / "cat" / "notes.jpg").write_text("no picture")
    return folder


def steps(output: str) -> dict[str, str]:
    """The text of each step, by its number, and of the summary."""
    parts = re.split(r"^(\d/6|Summary)", output, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_demo_walks_from_pictures_to_a_bill_and_stops_what_it_started(var: Path) -> None:
    done = manage(var, "demo", start=SMALL)
    assert done.returncode == 0, done.stderr
    told = steps(done.stdout)
    assert list(told) == ["1/6", "2/6", "3/6", "4/6", "5/6", "6/6", "Summary"]
    assert re.search(r"aiaas_local_\w{36}\n +is shown this once", told["1/6"])
    assert "64 pictures drawn by this project" in told["2/6"]
    assert "100%" in told["2/6"]
    assert "train: 24 cat, 24 not_cat" in told["2/6"]
    assert re.search(r"epoch 8 of 8: loss .* validation accuracy 0\.\d", told["3/6"])
    assert "model.keras" in told["4/6"]
    assert re.search(r"was cat +\d+ +\d+", told["4/6"])
    assert "POST /api/v1/deployments/cats/predict → label" in told["5/6"]
    assert "POST /v1/models/cats:predict → predictions [[" in told["5/6"]
    assert "predictions 202" in told["6/6"]
    assert re.search(r"latency +p50 [\d.]+ ms", told["Summary"])
    assert re.search(r"Predictions +202 predictions +at 0.50 EUR per 1,000 predictions +0.10 EUR", told["Summary"])
    assert re.search(r"Training +\d+ seconds", told["Summary"])
    assert re.search(r"Storage +[\d,]+ byte-hours", told["Summary"])
    assert re.search(r"Total +\(draft\) +\d+\.\d\d EUR", told["Summary"])
    assert not (var / "postgres" / "postmaster.pid").exists()
    assert not [p for p in psutil.process_iter() if str(var) in " ".join(_command(p))]


def test_a_second_demo_reuses_what_is_there(var: Path) -> None:
    done = manage(var, "demo", start=SMALL)
    assert done.returncode == 0, done.stderr
    told = steps(done.stdout)
    for number in ("1/6", "2/6", "3/6", "5/6"):
        assert "reused:" in told[number], number
    assert "Predictions  404 predictions" in re.sub(r" +(?=404)", "  ", told["Summary"])


def test_a_folder_of_pictures_becomes_the_next_version(var: Path, pictures: Path) -> None:
    done = manage(var, "demo", "--data", str(pictures))
    assert done.returncode == 0, done.stderr
    told = steps(done.stdout)
    assert "1 file was left out" in told["2/6"]
    assert "train/cat/notes.jpg" in told["2/6"]
    assert "validation: 8 cat, 7 thing" in told["2/6"], "one picture is held back"
    assert "cats version 2" in told["4/6"]
    assert "pointed deployment cats from version 1 to 2" in told["5/6"]
    assert "held back from the upload" in told["5/6"]


def test_up_with_demo_has_everything_ready_and_says_where(var: Path) -> None:
    site = Foreground(var, "up", "--demo", "--port", "0", start=SMALL)
    try:
        site.line("Ready:", 120)
        file = var / "demo.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        found = json.loads(file.read_text())
        assert set(found) == {"url", "api_key", "deployment", "admin"}
        assert found["url"] == site.url
        with httpx.Client(base_url=found["url"], headers={"Authorization": f"Bearer {found['api_key']}"}) as customer:
            path = f"/api/v1/deployments/{found['deployment']}/predict"
            picture = drawings.draw("cat", seed=drawings.HELD_BACK_SEED)
            answer = customer.post(path, content=picture, headers={"Content-Type": "image/jpeg"})
            assert answer.status_code == 200
            assert answer.json()["label"] in ("cat", "not_cat")
            assert customer.get("/api/v1/deployments/cats").json()["version"] == 1, "that of the drawn pictures"
        with httpx.Client(base_url=found["url"], follow_redirects=True) as operator:
            page = _logged_in(operator, found["admin"])
            assert "What customers have, use and owe" in page
    finally:
        assert site.stop() == 0


def test_a_demo_uses_the_site_that_runs_already(var: Path) -> None:
    site = Foreground(var, "up", "--port", "0")
    try:
        url = site.url
        done = manage(var, "demo", start=SMALL)
        assert done.returncode == 0, done.stderr
        assert f"The site runs already at {url}; this uses it." in done.stdout
        assert httpx.get(f"{url}/healthz").status_code == 200
    finally:
        assert site.stop() == 0


def test_an_interrupted_demo_says_so_and_leaves_nothing_behind(var: Path) -> None:
    demo = Foreground(var, "demo", start=SMALL)
    demo.line("1/6")
    family = demo.family()
    assert demo.stop() == 130
    assert demo.lines[-1] == "Stopped before the end."
    until(lambda: all(gone(process) for process in family))


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ([], "There is no folder"),
        (["train/cat/1.jpg", "validation/cat/1.jpg"], "in 1 class folders; expected two classes"),
    ],
)
def test_a_folder_in_another_layout_is_refused_in_words(
    var: Path, tmp_path: Path, layout: list[str], said: str
) -> None:
    for name in layout:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    done = manage(var, "demo", "--data", str(tmp_path))
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def _logged_in(operator: httpx.Client, admin: dict[str, str]) -> str:
    form = operator.get(admin["url"]).text
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
    assert token
    entered = {"csrfmiddlewaretoken": token[1], "username": admin["username"], "password": admin["password"]}
    answer = operator.post(f"{admin['url']}login/?next=/admin/", data=entered, headers={"Referer": admin["url"]})
    return answer.text


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
