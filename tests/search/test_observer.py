"""Observers: told of everything, and never in the way of the search."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from searches import assert_same_run, cartpole

from distes.errors import Notice, UsageError
from distes.runs.reader import load
from distes.search.observer import Observer, find_observers


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
