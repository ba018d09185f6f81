"""What all drawings have in common: escaped text, colours for light and dark, a title that can be read aloud."""

import base64
import re
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

# Of two palettes with enough contrast on either ground; lines differ by their dashes as well.
STYLE = """
svg { color-scheme: light dark; background: #fff; }
text { font: 12px system-ui, sans-serif; fill: #1c2430; }
.quiet { fill: #5a6675; } .head { font-weight: 600; font-size: 14px; }
.axis { stroke: #8a94a3; fill: none; } .grid { stroke: #e3e7ec; fill: none; }
.ground { fill: #fff; } .cell { fill: #1b6ca8; } .bar { fill: #1b6ca8; } .gap { fill: #c8553d; }
.one { stroke: #1b6ca8; fill: none; stroke-width: 2; } .two { stroke: #b5432b; fill: none; stroke-width: 2; }
.three { stroke: #2f7339; fill: none; stroke-width: 2; } .four { stroke: #7d4f9e; fill: none; stroke-width: 2; }
.dot.one { fill: #1b6ca8; } .dot.two { fill: #b5432b; } .dot.three { fill: #2f7339; } .dot.four { fill: #7d4f9e; }
.on-dark { fill: #fff; }
@media (prefers-color-scheme: dark) {
  svg { background: #14181f; }
  text { fill: #e6eaf0; } .quiet { fill: #9aa6b5; }
  .axis { stroke: #76808f; } .grid { stroke: #2a313c; } .ground { fill: #14181f; }
  .cell { fill: #4aa3e0; } .bar { fill: #4aa3e0; } .gap { fill: #ee8b74; }
  .one { stroke: #6bb8ee; } .two { stroke: #f09a85; } .three { stroke: #7cc487; } .four { stroke: #c59be0; }
  .dot.one { fill: #6bb8ee; } .dot.two { fill: #f09a85; } .dot.three { fill: #7cc487; } .dot.four { fill: #c59be0; }
  .on-dark { fill: #0b0e13; }
}
"""
LINES = ("one", "two", "three", "four")
DASHES = ("", "6 3", "2 3", "9 3 2 3")
# What XML cannot hold, and what makes a text run the other way or hide.
UNFIT = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def drawing(*, width: int, height: int, title: str, description: str, parts: Sequence[str]) -> str:
    """An SVG of this size in pixels; `description` says in words what is seen."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-labelledby="t d"><title id="t">{fit(title)}</title><desc id="d">{fit(description)}</desc>'
        f'<style>{STYLE}</style><rect class="ground" width="{width}" height="{height}"/>{"".join(parts)}</svg>\n'
    )


def empty(*, title: str, words: str) -> str:
    """A drawing that says why there is nothing to draw."""
    return drawing(
        width=480, height=120, title=title, description=words,
        parts=[text(16, 32, title, "head"), text(16, 64, words, "quiet")],
    )  # fmt: skip


def width_of(title: str, *, most: int) -> int:
    """Room for a title of at most so many characters, in pixels."""
    return 32 + 9 * min(len(title), most)


def text(
    x: float, y: float, words: str, kind: str = "", *, anchor: str = "start", turn: int = 0, most: int = 60
) -> str:
    """A line of text, however strange, at most so many characters of it."""
    turned = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class={quoteattr(kind)} text-anchor="{anchor}"{turned}>'
        f"{fit(words, most=most)}</text>"
    )


def fit(words: str, *, most: int = 2000) -> str:
    """Strangers' text for XML: escaped, shortened, without characters that it cannot hold."""
    clean = UNFIT.sub("\ufffd", words)
    return escape(clean if len(clean) <= most else clean[: most - 1] + "…")


def as_image(svg: str, *, alt: str) -> str:
    """The drawing as an HTML image in which nothing of it can reach the page."""
    data = base64.b64encode(svg.encode()).decode()
    return f'<img alt={quoteattr(alt)} src="data:image/svg+xml;base64,{data}" style="max-width:100%">'
