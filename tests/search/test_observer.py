"""Observers: told of everything, and never in the way of the search."""

from __future__ import annotations

import re
import sys
import warnings
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from searches import StopAt, assert_same_run, cartpole

from distes.errors import Notice, UsageError
from distes.runs.reader import load
from distes.search.observer import Observer, find_observers
from distes.views.observers.terminal import Display


class Failing(Observer):
    """Raises in one of its methods, and counts the calls of all."""

    def __init__(self, occasion: str) -> None:
        self.occasion, self.calls = occasion, list[str]()

    def _called(self, occasion: str) -> None:
        self.calls.append(occasion)
        if occasion == self.occasion:
            raise OSError("the disk of the plot is full")

    def starting(self, search: Any) -> None:
        self._called("starting")

    def generation(self, row: Any) -> None:
        self._called("generation")

    def finished(self, result: Any) -> None:
        self._called("finished")


@pytest.mark.parametrize("occasion", ["starting", "generation", "finished"])
def test_one_that_raises_is_told_no_more_and_the_run_goes_on(tmp_path: Path, occasion: str) -> None:
    """A picture that can't be drawn must not cost a day of search, nor the other observers."""
    failing, other = Failing(occasion), Failing("nothing")
    search = cartpole(tmp_path / "watched", observers=(failing, other))
    with pytest.warns(Notice, match="observer Failing failed and is told no more") as told:
        search.run()
    assert sum("is told no more" in str(each.message) for each in told) == 1
    assert failing.calls.count(occasion) == 1
    assert failing.calls[-1] == occasion
    assert other.calls == ["starting", *4 * ["generation"], "finished"]
    cartpole(tmp_path / "alone").run()
    assert_same_run(tmp_path / "watched", tmp_path / "alone")
    events = [e for e in load(tmp_path / "watched").events if e["kind"] == "observer_failed"]
    assert len(events) == (occasion == "generation")  # before and after there is no open log
    assert all("the disk of the plot is full" in event["traceback"] for event in events)


def test_where_warnings_are_errors_the_run_goes_on(tmp_path: Path) -> None:
    """The event is in the log, whatever becomes of the notice."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        cartpole(tmp_path / "run", engine="loop", observers=(Failing("generation"),)).run()
    assert [e["kind"] for e in load(tmp_path / "run").events].count("observer_failed") == 1


def test_a_wrong_name_is_one_sentence() -> None:
    with pytest.raises(UsageError, match="unknown observer 'terminl': did you mean 'terminal'"):
        find_observers(["terminl"])


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def read_shown(stream: StringIO) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_a_script_shows_its_progress_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: a script is silent for hours; or a test, or whoever asks for nobody, is not."""
    monkeypatch.setenv("TERM", "xterm")
    shown = {}
    for name, observers in (("default", {}), ("nobody", {"observers": ()}),
                            ("named", {"observers": "none"})):  # fmt: skip
        monkeypatch.setattr(sys, "stdout", Terminal())
        cartpole(tmp_path / name, **observers).run()
        shown[name] = read_shown(sys.stdout)  # type: ignore[arg-type]
    assert "24 candidates (given) x 2 episodes" in shown["default"].splitlines()[0]
    assert "stopped: 4 generations" in shown["default"]
    assert "deployed: " in shown["default"]
    assert shown["nobody"] == shown["named"] == ""
    monkeypatch.setattr(sys, "stdout", StringIO())
    cartpole(tmp_path / "file").run()
    assert sys.stdout.getvalue() == ""  # type: ignore[attr-defined]


def test_a_script_that_ends_early_gives_the_terminal_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If wrong: after a script's Ctrl-C the cursor stays hidden, and a thread draws on."""
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt):
        cartpole(tmp_path / "run", observers=(Display(stream), StopAt(1))).run()
    text = stream.getvalue()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is shown again"
