"""What a version got most wrong, row by row; of pictures, with the picture."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from modelhub.charts import canvas

WIDTH, ROW, PICTURE = 720, 64, 112


def mistakes(rows: Sequence[Mapping[str, Any]], *, title: str) -> str:
    """The `mistakes` of an evaluation: the name of each row, what is true, and what was answered."""
    if not rows:
        return canvas.empty(title=title, words="No row was answered wrong.")
    pictured = any(row.get("picture") for row in rows)
    height = PICTURE if pictured else ROW
    parts = [canvas.text(16, 24, title, "head", most=90)]
    for place, row in enumerate(rows):
        parts += _row(row, top=40 + place * height, pictured=pictured)
    said = "; ".join(f"{row['name']}: {row['truth']} answered as {row['answer']}" for row in rows)
    return canvas.drawing(
        width=WIDTH, height=48 + len(rows) * height, title=title, description=said, parts=parts
    )  # fmt: skip


def _row(row: Mapping[str, Any], *, top: int, pictured: bool) -> list[str]:
    left = 128 if pictured else 16
    parts = [f'<path class="grid" d="M16,{top}H{WIDTH - 16}"/>']
    if pictured and _is_base64(row.get("picture", "")):
        parts.append(
            f'<image x="16" y="{top + 8}" width="96" height="96" href="data:image/jpeg;base64,{row["picture"]}"/>'
        )
    parts.append(canvas.text(left, top + 20, f"{row['name']} · {_how_wrong(row)}", "quiet", most=90))
    parts.append(canvas.text(left, top + 38, f"true: {row['truth']}", most=95))
    parts.append(canvas.text(left, top + 56, f"answered: {row['answer']}", most=95))
    return parts


def _how_wrong(row: Mapping[str, Any]) -> str:
    if "confidence" in row:
        return f"{row['confidence']:.0%} sure"
    if "wrong_words" in row:
        return f"{row['wrong_words']} words wrong"
    return f"off by {row['difference']:.4g}" if "difference" in row else ""


def _is_base64(text: str) -> bool:
    try:
        return bool(text) and bool(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return False
