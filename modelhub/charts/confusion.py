"""Confusion matrices: a row for each true class, a column for each answered one."""

from collections.abc import Mapping, Sequence
from typing import Any

from modelhub.charts import canvas

# Beyond so many classes names and numbers would lie over one another: the cells alone are drawn.
MAX_NAMED = 30
MAX_CLASSES = 400


def confusion(matrix: Mapping[str, Any], *, title: str) -> str:
    """A `confusion_matrix` of metrics as a grid: the darker, the larger the share of the true class's rows."""
    labels: list[str] = [str(label) for label in matrix["labels"]]
    counts: list[list[int]] = matrix["matrix"]
    if len(labels) > MAX_CLASSES:
        return canvas.empty(title=title, words=f"{len(labels)} classes are too many to draw; see the numbers.")
    named = len(labels) <= MAX_NAMED
    side = 44 if len(labels) <= 12 else 28 if named else max(2, 640 // len(labels))
    left = 40 + (max((min(len(label), 20) for label in labels), default=0) * 7 if named else 0)
    top = 60 + (left - 40 if named else 0)
    parts = [canvas.text(16, 24, title, "head", most=100)]
    parts += _cells(counts, labels, side=side, left=left, top=top, named=named)
    if named:
        parts += _names(labels, side=side, left=left, top=top)
    middle = side * len(labels) / 2
    parts.append(canvas.text(left + middle, top + 2 * middle + 22, "answered", "quiet", anchor="middle"))
    parts.append(canvas.text(18, top + middle, "truth", "quiet", anchor="middle", turn=-90))
    return canvas.drawing(
        width=max(canvas.width_of(title, most=100), left + side * len(labels) + 24),
        height=top + side * len(labels) + 36,
        title=title,
        description=_described(labels, counts),
        parts=parts,
    )


def _cells(
    counts: Sequence[Sequence[int]], labels: Sequence[str], *, side: int, left: int, top: int, named: bool
) -> list[str]:
    parts = []
    for row, line in enumerate(counts):
        whole = sum(line)
        for column, count in enumerate(line):
            share = count / whole if whole else 0.0
            x, y = left + column * side, top + row * side
            told = canvas.fit(f"{labels[row]} answered as {labels[column]}: {count} of {whole}", most=200)
            if count or named:
                parts.append(
                    f'<rect class="cell" fill-opacity="{share:.3f}" x="{x}" y="{y}" width="{side}" height="{side}">'
                    f"<title>{told}</title></rect>"
                )
            if named:
                parts.append(f'<rect class="grid" x="{x}" y="{y}" width="{side}" height="{side}"/>')
                kind = "on-dark" if share > 0.55 else ""
                number = f"{count}" if count < 10_000 else f"{count / 1000:.0f}k"
                parts.append(canvas.text(x + side / 2, y + side / 2 + 4, number, kind, anchor="middle"))
    if not named:
        whole_side = side * len(labels)
        parts.append(f'<rect class="axis" x="{left}" y="{top}" width="{whole_side}" height="{whole_side}"/>')
    return parts


def _names(labels: Sequence[str], *, side: int, left: int, top: int) -> list[str]:
    parts = []
    for place, label in enumerate(labels):
        middle = place * side + side / 2
        parts.append(canvas.text(left - 6, top + middle + 4, label, anchor="end", most=20))
        parts.append(canvas.text(left + middle + 4, top - 6, label, turn=-90, most=20))
    return parts


def _described(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    rows = sum(map(sum, counts))
    right = sum(counts[place][place] for place in range(len(counts)))
    missed = [
        (count, labels[row], labels[column])
        for row, line in enumerate(counts)
        for column, count in enumerate(line)
        if row != column and count
    ]
    worst = "; ".join(
        f"{truth} answered as {answer} {count} times" for count, truth, answer in sorted(missed)[::-1][:5]
    )
    return f"{right} of {rows} rows lie on the diagonal. {f'Most often wrong: {worst}.' if worst else ''}".strip()
