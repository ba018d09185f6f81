"""What the journey says: lines that read well on a terminal and in a file."""

from typing import TextIO

INDENT = "     "
# Where nobody watches, a progress is written when it passes one of these shares.
MILESTONES = (0.25, 0.5, 0.75, 1.0)


class Terminal:
    """Steps, lines and progress: a line that changes on a terminal, and at most four lines in a file."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._watched = stream.isatty()
        self._open = ""
        self._finished = False
        self._label = ""
        self._milestone = 0

    def step(self, number: int, total: int, title: str) -> None:
        self.line("")
        self.line(f"{number}/{total}  {title}")

    def say(self, text: str) -> None:
        """A line that belongs to the step."""
        self.line("\n".join(INDENT + part for part in text.splitlines()))

    def line(self, text: str) -> None:
        self._close()
        self._write(f"{text}\n")

    def progress(self, label: str, share: float, text: str = "") -> None:
        """How far `label` is, 0 to 1; the same label with a new share changes the line."""
        if self._watched:
            self.glimpse(label, share, text)
            return
        if label != self._label:
            self._label, self._milestone = label, 0
        passed = sum(share >= milestone for milestone in MILESTONES)
        if passed > self._milestone:
            self._milestone = passed
            self._write(f"{_shown(label, share, text)}\n")

    def glimpse(self, label: str, share: float | None, text: str = "") -> None:
        """A progress that only somebody who watches wants to see; none where it cannot be told how far it is."""
        if not self._watched:
            return
        if label != self._label:
            self._close()
            self._label = label
        line = _shown(label, share, text)
        self._write("\r" + line.ljust(len(self._open)))
        self._open, self._finished = line, share is not None and share >= 1

    def _close(self) -> None:
        """A finished progress stays, an unfinished one gives way to what comes next."""
        if self._open:
            self._write("\n" if self._finished else "\r" + " " * len(self._open) + "\r")
        self._open = self._label = ""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _shown(label: str, share: float | None, text: str) -> str:
    percent = "  … " if share is None else f"{min(1.0, max(0.0, share)):4.0%}"
    return f"{INDENT}{label:<10} {percent}  {text}".rstrip()
