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


def test_on_a_terminal_a_finished_progress_stays() -> None:
    screen = Screen()
    terminal = Terminal(screen)
    terminal.progress("upload", 0.1, "a long remark")
    terminal.progress("upload", 1.0)
    terminal.say("done")
    first, second, rest = screen.getvalue().split("\n")
    _, begun, finished = first.split("\r")
    assert finished.split() == ["upload", "100%"]
    assert len(finished) >= len(begun), "what was there before is overwritten"
    assert (second.strip(), rest) == ("done", "")


def test_on_a_terminal_an_unfinished_progress_gives_way() -> None:
    screen = Screen()
    terminal = Terminal(screen)
    terminal.glimpse("training", 0.5)
    terminal.say("epoch 1")
    line, rest = screen.getvalue().split("\n")
    assert line.endswith("\r     epoch 1")
    assert rest == ""


def test_a_file_gets_no_glimpses() -> None:
    file = io.StringIO()
    Terminal(file).glimpse("training", 1.0)
    assert file.getvalue() == ""
