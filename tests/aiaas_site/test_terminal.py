"""What the journey says reads well on a terminal and in a file."""

import io

from aiaas_site.terminal import Terminal


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_file_gets_a_line_at_each_milestone_only() -> None:
    file = io.StringIO()
    terminal = Terminal(file)
    for percent in range(101):
        terminal.progress("upload", percent / 100)
    terminal.say("done")
    shares = [line.split()[1] for line in file.getvalue().splitlines()[:-1]]
    assert shares == ["25%", "50%", "75%", "100%"]


def test_on_a_terminal_the_line_changes_and_is_ended_once() -> None:
    screen = Screen()
    terminal = Terminal(screen)
    terminal.progress("upload", 0.1, "a long remark")
    terminal.progress("upload", 1.0)
    terminal.say("done")
    lines = screen.getvalue().split("\n")
    assert len(lines) == 3
    shown = lines[0].split("\r")
    assert len(shown[2]) >= len(shown[1]), "what was there before is overwritten"
    assert lines[1].strip() == "done"
