"""Tables over HTTP: types that are inferred or given, what their columns are like, and the rows that are bad."""

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from modelhub.datasets.manifests import Column
from tests.conftest import Account
from tests.modelhub import zips
from tests.modelhub.calls import DATASETS, lines, manifest_of, problems, uploaded, warnings
from tests.modelhub.places import places

__all__ = ["places"]
pytestmark = pytest.mark.usefixtures("places")

KIND, CSV = "table", "text/csv"
HEADER = "id,price,sold,colour,note,postcode"


def a_row(n: int) -> str:
    colour = ("red", "green", "NA")[n % 3]
    return f"{n},{n / 4},{'yes' if n % 2 else 'no'},{colour},it was seen on day {n} by {n % 7},0{1000 + n % 60}"


def as_csv(*more: str, count: int = 200) -> bytes:
    return "\n".join([HEADER, *map(a_row, range(count)), *more, ""]).encode()


def columns(row: Any) -> dict[str, Any]:
    return {each.pop("name"): each for each in row["report"]["content"]["columns"]}


def test_types_are_inferred(acme: Account, acme_client: APIClient) -> None:
    row = uploaded(acme_client, KIND, as_csv(), CSV)
    assert (row["state"], row["items"]) == ("checked", 200)
    assert manifest_of(acme, row).columns == (
        Column("id", "integer"),
        Column("price", "number"),
        Column("sold", "boolean"),
        Column("colour", "category"),
        Column("note", "text"),
        Column("postcode", "text"),
    )
    stored = {line["name"]: line["values"] for line in lines(acme, row, "train") + lines(acme, row, "validation")}
    assert stored["body.csv:7"] == {
        "id": 5, "price": 1.25, "sold": True, "colour": None, "note": "it was seen on day 5 by 5", "postcode": "01005",
    }  # fmt: skip


def test_columns_are_summed_up(acme_client: APIClient) -> None:
    found = columns(uploaded(acme_client, KIND, as_csv(), CSV))
    assert {k: found["id"][k] for k in ("min", "mean", "max", "missing", "distinct")} == {
        "min": 0, "mean": 99.5, "max": 199, "missing": 0, "distinct": 200,
    }  # fmt: skip
    assert found["id"]["std"] == pytest.approx(57.734, abs=0.001)
    assert (found["colour"]["missing"], found["colour"]["most_frequent"][0]) == (66, {"value": "green", "count": 67})
    assert found["sold"]["most_frequent"] == [{"value": False, "count": 100}, {"value": True, "count": 100}]
    assert found["note"]["characters"]["max"] == 27


def test_types_may_be_given(acme: Account, acme_client: APIClient) -> None:
    row = uploaded(
        acme_client,
        KIND,
        as_csv("x,1,no,red,a,01", "7,many,no,red,a,01"),
        CSV,
        columns={"id": "text", "price": "number"},
    )
    assert {column.name: column.type for column in manifest_of(acme, row).columns}["id"] == "text"
    assert problems(row) == {
        "body.csv:203": "Its 'price' is 'many'; expected a number, with a point before its decimals."
    }
    assert row["columns"] == {"id": "text", "price": "number"}


def test_a_type_that_is_none_is_refused(acme_client: APIClient) -> None:
    body = {"name": "x", "kind": KIND, "columns": {"id": "money"}}
    answer = acme_client.post(DATASETS, body, format="json")
    assert answer.status_code == 400
    assert "number, integer, category, boolean, text" in answer.json()["detail"]


def test_a_few_stray_cells_are_bad_rows_and_many_make_a_text(acme: Account, acme_client: APIClient) -> None:
    row = uploaded(acme_client, KIND, as_csv("12,unknown,no,red,a,01", count=300), CSV)
    assert row["items"] == 300
    assert "'price' is 'unknown'; expected a number" in problems(row)["body.csv:302"]
    many = uploaded(acme_client, KIND, as_csv(*["12,unknown,no,red,a,01"] * 20), CSV, name="many")
    assert (many["items"], many["report"]["bad"]) == (220, 0)
    assert columns(many)["price"]["type"] == "text"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1,2", "2 fields; expected 6"),
        (",,,,,", "All its cells are empty."),
        ('1,2,no,red,"nul \0",01', "NUL"),
        (f"1,2,no,red,{'x' * 20_001},01", "20,001 characters"),
        ("1e999,2,no,red,a,01", "'id' is '1e999'"),
        ("1,1e999,no,red,a,01", "'price' is '1e999'"),
        ("1,inf,no,red,a,01", "'price' is 'inf'"),
        ("1,=A1+B1,no,red,a,01", "'price' is '=A1+B1'"),
    ],
)
def test_a_bad_row_is_named_and_left_out(acme_client: APIClient, line: str, words: str) -> None:
    row = uploaded(acme_client, KIND, as_csv(line), CSV)
    assert (row["items"], row["report"]["bad"]) == (200, 1)
    assert words in problems(row)["body.csv:202"]


def test_formulas_are_text_and_named(acme: Account, acme_client: APIClient) -> None:
    formula = '=HYPERLINK("http://x.example";"y")'
    row = uploaded(acme_client, KIND, as_csv('1,2,no,red,"' + formula.replace('"', '""') + '",01'), CSV)
    assert "'body.csv:202'" in warnings(row)["formulas"]
    stored = {line["name"]: line["values"] for line in lines(acme, row, "train") + lines(acme, row, "validation")}
    assert stored["body.csv:202"]["note"] == formula


def test_columns_that_never_vary_are_named(acme_client: APIClient) -> None:
    body = "\n".join(["x,same,none", *(f"{n},1," for n in range(20))]).encode()
    row = uploaded(acme_client, KIND, body, CSV)
    assert (
        "2 of the columns never vary, and cannot be predicted: 'same', 'none'"
        in warnings(row)["columns-that-never-vary"]
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"x\n" + b"1\n" * 20, "No column of the table varies"),
        (b"x,y\n1,2\n", "train has 1 good row"),
        (b"x,y\n", "no good row"),
        (b"x,x\n1,2\n", "Two of its columns are called 'x'"),
        ((",".join(f"c{n}" for n in range(10_000)) + "\n").encode(), "10,000 columns; the limit is 2,000"),
        (b"x,a\x00b\n1,2\n", "expected printable characters"),
    ],
)
def test_a_table_that_cannot_work_is_refused_in_words(acme_client: APIClient, body: bytes, reason: str) -> None:
    row = uploaded(acme_client, KIND, body, CSV)
    assert row["state"] == "rejected"
    assert reason in " ".join(row["report"]["reasons"])


def test_a_decimal_comma_is_read_between_semicolons(acme: Account, acme_client: APIClient) -> None:
    body = "\n".join(["x;y", *(f"{n},5;{n}" for n in range(20))]).encode()
    row = uploaded(acme_client, KIND, body, CSV)
    assert [column.type for column in manifest_of(acme, row).columns] == ["number", "integer"]
    assert lines(acme, row, "train")[0]["values"] == {"x": 0.5, "y": 0}


def test_a_thousand_columns_are_taken(acme: Account, acme_client: APIClient) -> None:
    body = "\n".join(
        [",".join(f"c{n}" for n in range(1000)), *(",".join(str(k * n) for n in range(1000)) for k in range(5))]
    )
    row = uploaded(acme_client, KIND, body.encode(), CSV)
    assert (row["state"], len(manifest_of(acme, row).columns)) == ("checked", 1000)


def test_json_lines_have_types_of_their_own(acme: Account, acme_client: APIClient) -> None:
    some = [{"n": n, "x": n / 3, "yes": n % 2 == 0, "who": f"w{n % 3}", "gone": None} for n in range(60)]
    more = [{"n": 1, "nested": {}}, {"n": [1], "x": 1.0, "yes": True, "who": "w"}]
    body = "".join(json.dumps(each) + "\n" for each in some + more).encode()
    row = uploaded(acme_client, KIND, body, "application/x-ndjson")
    assert [column.type for column in manifest_of(acme, row).columns] == [
        "integer", "number", "boolean", "category", "category",
    ]  # fmt: skip
    assert set(problems(row)) == {"body.jsonl:61", "body.jsonl:62"}
    assert lines(acme, row, "train")[0]["values"]["yes"] in (True, False)


def test_files_of_one_table_have_the_same_columns(acme_client: APIClient) -> None:
    files = {"train.csv": as_csv(count=30), "validation.csv": as_csv(count=5), "other.csv": b"a,b\n1,2\n"}
    row = uploaded(acme_client, KIND, zips.packed(files))
    assert row["report"]["counts"] == {"train": 30, "validation": 5}
    assert "other columns" in problems(row)["other.csv"]


def test_rows_of_one_customer_stay_together(acme: Account, acme_client: APIClient) -> None:
    body = "\n".join(["customer,x", *(f"c{n % 8},{n}" for n in range(80))]).encode()
    row = uploaded(acme_client, KIND, body, CSV, split={"by": "group", "column": "customer", "validation": 0.25})
    groups = {split: {line["group"] for line in lines(acme, row, split)} for split in ("train", "validation")}
    assert (len(groups["train"]), len(groups["validation"])) == (6, 2)
    assert not groups["train"] & groups["validation"]
    assert [column.name for column in manifest_of(acme, row).columns] == ["x"]


def test_the_split_column_is_none_of_the_table(acme: Account, acme_client: APIClient) -> None:
    body = "\n".join(["x,split", *(f"{n},{'train' if n < 8 else 'val'}" for n in range(10))]).encode()
    row = uploaded(acme_client, KIND, body, CSV)
    assert row["report"]["counts"] == {"train": 8, "validation": 2}
    assert [column.name for column in manifest_of(acme, row).columns] == ["x"]
