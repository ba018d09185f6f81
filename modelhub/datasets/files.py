"""The check of kinds whose items are files: each examined by itself, several at a time, then divided."""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from modelhub.datasets import archives, lists, splits
from modelhub.datasets.archives import Archive, Entry
from modelhub.datasets.kinds.base import BadItem, Work
from modelhub.datasets.lists import Place
from modelhub.datasets.manifests import Item
from modelhub.datasets.reports import Report
from modelhub.datasets.splits import GIVEN, SPLITS, Indivisible
from tenants.errors import Refusal

# A file's bytes and its place into an item that is staged; raises BadItem or Refusal.
Examine = Callable[[bytes, Place], Item]


def examined(
    archive: Archive, wanted: Iterable[tuple[Entry, Place]], *, examine: Examine, work: Work, report: Report
) -> list[Item]:
    """Unpacks in this thread, examines in one for each core, with a few files in memory at once."""
    places = list(wanted)
    workers = os.cpu_count() or 1
    items: list[Item] = []
    waiting: deque[tuple[str, Future[Item]]] = deque()

    def take_oldest() -> None:
        name, future = waiting.popleft()
        try:
            items.append(future.result())
        except Refusal as error:
            report.leave_out(name, error.detail)
        except BadItem as error:
            report.leave_out(name, str(error))

    with ThreadPoolExecutor(workers, thread_name_prefix="check") as pool:
        for done, (entry, place) in enumerate(places):
            work.progress(done, len(places))
            try:
                data = archive.read(entry)
            except archives.Unreadable as error:
                report.leave_out(entry.name, str(error))
                continue
            waiting.append((entry.name, pool.submit(examine, data, place)))
            if len(waiting) > 2 * workers:
                take_oldest()
        while waiting:
            take_oldest()
    return items


def wrapping_folder(entries: Sequence[Entry]) -> int:
    """1 where a single folder wraps all that makes the layout, else 0."""
    tops = {entry.parts[0] for entry in entries}
    deep = any(len(entry.parts) > 2 or (len(entry.parts) == 2 and lists.is_list(entry)) for entry in entries)
    return int(len(tops) == 1 and tops.isdisjoint(SPLITS) and deep)


def divided(
    items: list[Item], *, work: Work, report: Report, stratum: Callable[[Item], str], least_stratum: int = 0
) -> list[Item]:
    """The items with their splits; the report says how, or why they cannot be divided."""
    if not items:
        return items
    try:
        split = splits.way(work.split, given=any(item.split for item in items))
        if split.by == GIVEN:
            items = _with_split(items, report)
        else:
            items = splits.assigned(items, split=split, stratum=stratum, least_stratum=least_stratum)
    except Indivisible as error:
        report.reasons.append(str(error))
        return []
    report.split = split.as_json()
    return sorted(items, key=lambda item: item.name)


def counted(items: Sequence[Item]) -> Counter[tuple[str, str]]:
    """How many items there are by split and target."""
    return Counter((item.split, item.target) for item in items)


def _with_split(items: list[Item], report: Report) -> list[Item]:
    for item in items:
        if not item.split:
            report.leave_out(item.name, "It has no split, and others have: expected train or validation.")
    return [item for item in items if item.split]
