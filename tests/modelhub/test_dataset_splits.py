"""The pure core of splits: deterministic, within their shares, and never the same group on both sides."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelhub.datasets import splits
from modelhub.datasets.manifests import Item
from modelhub.datasets.splits import GROUP, RATIO, Indivisible, Split

contents = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.sampled_from(["", "g1", "g2", "g3", "g4"])),
    min_size=1,
    max_size=60,
)
shares = st.floats(0.01, 0.5)
seeds = st.integers(0, 100)


def items_of(found: list[tuple[str, int, str]]) -> list[Item]:
    return [
        Item("", f"{number}.jpg", sha256=str(content), size=1, target=target, group=group)
        for number, (target, content, group) in enumerate(found)
    ]


@settings(deadline=None)
@given(found=contents, share=shares, seed=seeds)
def test_each_class_keeps_two_to_train_on_and_one_to_validate(
    found: list[tuple[str, int, str]], share: float, seed: int
) -> None:
    items = items_of(found)
    divided = splits.assigned(items, split=Split(RATIO, share, seed), stratum=lambda item: item.target)
    counts = Counter((item.target, item.split) for item in divided)
    for target, count in Counter(item.target for item in items).items():
        wanted = splits.quota(count, validation=share)
        assert wanted / 2 <= counts[target, "validation"] <= 2 * wanted
        if count >= 3:
            assert counts[target, "validation"] >= 1
            assert counts[target, "train"] >= 2


@settings(deadline=None)
@given(found=contents, share=shares, seed=seeds, order=st.randoms())
def test_the_order_does_not_matter(found: list[tuple[str, int, str]], share: float, seed: int, order: object) -> None:
    items = items_of(found)
    shuffled = list(items)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    ways = [
        {item.name: item.split for item in splits.assigned(some, split=Split(RATIO, share, seed), stratum=lambda i: "")}
        for some in (items, shuffled)
    ]
    assert ways[0] == ways[1]


@settings(deadline=None)
@given(found=contents, share=shares, seed=seeds)
def test_no_group_is_on_both_sides(found: list[tuple[str, int, str]], share: float, seed: int) -> None:
    items = items_of(found)
    groups = {item.group for item in items if item.group}
    if len(groups) < 2:
        with pytest.raises(Indivisible, match="at least two groups"):
            splits.assigned(items, split=Split(GROUP, share, seed), stratum=lambda item: item.target)
        return
    divided = splits.assigned(items, split=Split(GROUP, share, seed), stratum=lambda item: item.target)
    sides: dict[str, set[str]] = defaultdict(set)
    for item in divided:
        sides[item.group].add(item.split)
    assert all(len(both) == 1 for both in sides.values())
    assert {split for group, both in sides.items() if group for split in both} == {"train", "validation"}
    assert sides.get("", {"train"}) == {"train"}


def test_a_content_that_is_there_often_is_kept_on_one_side() -> None:
    items = [Item("", f"{n}.jpg", sha256=str(n % 20), size=1) for n in range(100)]
    divided = splits.assigned(items, split=Split(RATIO, 0.22, 3), stratum=lambda item: "")
    sides: dict[str, set[str]] = defaultdict(set)
    for item in divided:
        sides[item.sha256].add(item.split)
    assert all(len(both) == 1 for both in sides.values())
    assert 10 <= sum(item.split == "validation" for item in divided) <= 40


@pytest.mark.parametrize(
    ("text", "name"), [("Train", "train"), (" val ", "validation"), ("DEV", "validation"), ("test", None), ("", None)]
)
def test_splits_have_several_names(text: str, name: str | None) -> None:
    assert splits.named(text) == name
