"""Reliability diagrams: how often answers are right against how sure the model was of them."""

from collections.abc import Mapping
from typing import Any

from modelhub.charts import canvas

SIZE, LEFT, TOP = 280, 56, 56


def reliability(calibration: Mapping[str, Any], *, title: str) -> str:
    """The `calibration` of an evaluation: a bar a bin for its accuracy, the diagonal for one that is right to it."""
    filled = [one for one in calibration["bins"] if one["rows"]]
    bottom = TOP + SIZE
    parts = [canvas.text(16, 24, title, "head", most=100)]
    for step in range(6):
        value = step / 5
        parts.append(f'<path class="grid" d="M{LEFT},{bottom - value * SIZE:.1f}h{SIZE}"/>')
        parts.append(canvas.text(LEFT - 6, bottom - value * SIZE + 4, f"{value:.1f}", "quiet", anchor="end"))
        parts.append(canvas.text(LEFT + value * SIZE, bottom + 16, f"{value:.1f}", "quiet", anchor="middle"))
    for one in filled:
        x, width = LEFT + one["from"] * SIZE, (one["to"] - one["from"]) * SIZE - 2
        right, sure = bottom - one["accuracy"] * SIZE, bottom - one["confidence"] * SIZE
        words = f"{one['rows']} rows, {one['confidence']:.2f} sure, {one['accuracy']:.2f} right"
        parts.append(
            f'<rect class="bar" fill-opacity="0.75" x="{x:.1f}" y="{right:.1f}" width="{width:.1f}" '
            f'height="{bottom - right:.1f}"><title>{canvas.fit(words)}</title></rect>'
        )
        parts.append(
            f'<rect class="gap" fill-opacity="0.35" x="{x:.1f}" y="{min(right, sure):.1f}" width="{width:.1f}" '
            f'height="{abs(right - sure):.1f}"/>'
        )
    parts.append(f'<path class="axis" stroke-dasharray="4 3" d="M{LEFT},{bottom}L{LEFT + SIZE},{TOP}"/>')
    parts.append(f'<path class="axis" d="M{LEFT},{TOP}V{bottom}h{SIZE}"/>')
    parts.append(canvas.text(LEFT + SIZE / 2, bottom + 34, "how sure", "quiet", anchor="middle"))
    parts.append(canvas.text(16, TOP + SIZE / 2, "how often right", "quiet", anchor="middle", turn=-90))
    error = calibration["ece"]
    words = "no rows" if error is None else f"expected calibration error {error:.3f}"
    parts.append(canvas.text(16, 42, f"{calibration['rows']} rows, {words}", "quiet"))
    return canvas.drawing(
        width=max(canvas.width_of(title, most=100), LEFT + SIZE + 24),
        height=bottom + 48,
        title=title,
        description=f"Over {calibration['rows']} rows: {words}. "
        + "; ".join(f"{one['confidence']:.2f} sure and {one['accuracy']:.2f} right" for one in filled),
        parts=parts,
    )
