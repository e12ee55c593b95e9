"""What somebody types in Python and did not mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import environments
import pytest
from searches import cartpole

import distes
from distes.errors import UsageError
from distes.search.search import Search
from distes.strategies import CEM
from distes.views.observers.terminal import Display

NO_RUN = "is not a path, nor a URI as text"


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    cartpole(path, generations=1).run()
    return path


search: Any = Search
load: Any = distes.load
evaluate: Any = distes.evaluate
plot: Any = distes.plot


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (lambda _: search(None), "env None is not an id, nor a function"),
        (lambda _: search(environments.Walk()), "Walk is given as an environment that is made"),
        (lambda _: search("CartPole-v1", population="many"), "population many is not a whole"),
        (lambda _: search("CartPole-v1", generations=True), "generations True is not a whole"),
        (lambda _: search("CartPole-v1", policy=CEM()), "policy CEM is no policy: accepted are"),
        (lambda _: search("CartPole-v1", observers=3), "observer 3 is no observer"),
        (
            lambda _: search("CartPole-v1", observers="termnal"),
            "'termnal': did you mean 'terminal'",
        ),
        (lambda _: search("CartPole-v1", workers=0, out=3).run(), f"3 {NO_RUN}"),
        (lambda _: load(None), f"None {NO_RUN}"),
        (lambda run: load([run, 3]), f"3 {NO_RUN}"),
        (lambda run: load(run).read("episodes", generations=3), "generations 3 is not the"),
        (lambda run: load(run).candidates("x"), "generation 'x' is not a whole number"),
        (lambda run: evaluate(run, episodes="many"), "'many' is not a whole number"),
        (lambda run: plot(run, size="9x5"), r"size 9x5 is not .* in Python \(9, 5\)"),
        (lambda run: plot(run, size=9), "size 9 is not WIDTHxHEIGHT"),
    ],
)
def test_a_mistake_in_python_is_a_sentence(
    small_run: Path, mistake: Callable[[Any], Any], said: str
) -> None:
    """If wrong: who types something else than was meant reads a traceback through distes."""
    with pytest.raises(UsageError, match=said):
        mistake(small_run)


def test_one_observer_needs_no_list() -> None:
    """If wrong: a name is taken for a list of letters."""
    (observer,) = Search("CartPole-v1", observers="terminal").observers or ()
    assert isinstance(observer, Display)
