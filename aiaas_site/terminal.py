"""What the journey says: lines that read well on a terminal and in a file."""

from typing import TextIO

INDENT = "     "
# Where nobody watches, a progress is written when it passes one of these shares.
MILESTONES = (0.25, 0.5, 0.75, 1.0)


class Terminal:
    """Steps, lines and progress; a progress is one line that changes on a terminal, and at most four in a file."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._watched = stream.isatty()
        self._open = ""
        self._milestone = 0
        self._label = ""

    def step(self, number: int, total: int, title: str) -> None:
        self.line("")
        self._write(f"{number}/{total}  {title}\n")

    def say(self, text: str) -> None:
        """A line that belongs to the step."""
        self.line("\n".join(INDENT + part for part in text.splitlines()))

    def line(self, text: str) -> None:
        self._close()
        self._write(f"{text}\n")

    def progress(self, label: str, share: float, text: str = "") -> None:
        """How far `label` is, 0 to 1; the same call with a new share changes the line."""
        share = min(1.0, max(0.0, share))
        line = f"{INDENT}{label:<8} {share:4.0%}  {text}".rstrip()
        if label != self._label:
            self._close()
            self._label, self._milestone = label, 0
        if self._watched:
            self._write("\r" + line.ljust(len(self._open)))
            self._open = line
            return
        passed = sum(share >= milestone for milestone in MILESTONES)
        if passed > self._milestone:
            self._milestone = passed
            self._write(f"{line}\n")

    def _close(self) -> None:
        """Ends the line that a progress left open."""
        if self._open:
            self._open = ""
            self._write("\n")
        self._label = ""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
