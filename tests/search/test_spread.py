"""Searches that begin as wide as another one ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from searches import cartpole

import distes
from distes.errors import UsageError
from distes.strategies import CEM, CMAES, ICEM, PGPE, SNES, XNES
from distes.strategies.base import Strategy
from distes.strategies.parts.spreads import find_spread
from distes.testing.problems import FunctionProblem, sphere

WIDTHS = np.array([0.5, 1.0, 3.0])
TURN = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
COVARIANCE = TURN @ np.diag(WIDTHS**2) @ TURN.T
QUIET: Any = {"extra_std": 0.0}
FULL = [CEM(covariance="full", **QUIET), CMAES(), XNES()]
DIAGONAL = [CEM(**QUIET), ICEM(**QUIET), CMAES(covariance="separable"), SNES(), PGPE()]


def sampled(strategy: Strategy[Any], spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The covariance that a search samples with first, and the spread that it would hand on."""
    problem = FunctionProblem(sphere, np.ones(3), population_size=20, start_spread=spread)
    state = strategy.init(problem)
    scale = strategy.ask(problem, state).distribution.scale  # type: ignore[attr-defined]
    found = find_spread(state)
    assert found is not None
    return np.diag(scale**2) if scale.ndim == 1 else scale @ scale.T, found


@pytest.mark.parametrize("strategy", FULL, ids=lambda each: type(each).__name__)
def test_a_covariance_is_taken_over(strategy: Strategy[Any]) -> None:
    """If wrong: what the other search has learnt of directions is lost."""
    first, handed_on = sampled(strategy, COVARIANCE)
    assert first == pytest.approx(COVARIANCE)
    assert handed_on == pytest.approx(COVARIANCE)
    assert sampled(strategy, WIDTHS)[0] == pytest.approx(np.diag(WIDTHS**2))


@pytest.mark.parametrize("strategy", DIAGONAL, ids=lambda each: type(each).__name__)
def test_deviations_are_taken_over(strategy: Strategy[Any]) -> None:
    """If wrong: a search begins wider or narrower than was asked for."""
    first, handed_on = sampled(strategy, WIDTHS)
    assert first == pytest.approx(np.diag(WIDTHS**2))
    assert handed_on == pytest.approx(WIDTHS)
    diagonal = np.diag(np.diagonal(COVARIANCE))
    assert sampled(strategy, COVARIANCE)[0] == pytest.approx(diagonal)


@pytest.mark.parametrize("normalize", [False, True])
def test_a_run_begins_where_another_ended(tmp_path: Path, normalize: bool) -> None:
    """If wrong: a warm start forgets how sure the other search was."""
    given: Any = {"target": "off", "generations": 2, "normalize_observations": normalize}
    cartpole(tmp_path / "first", **given).run()
    ended = distes.load(tmp_path / "first").snapshot().strategy
    given |= {"start_from": tmp_path / "first", "start_from_spread": True}
    cartpole(tmp_path / "second", strategy="cmaes", **given).run()
    begun = distes.load(tmp_path / "second").population(0).distribution
    covariance = begun.scale @ begun.scale.T
    assert covariance == pytest.approx(np.diag(find_spread(ended) ** 2))


def test_what_has_no_spread_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "start.npy", np.zeros(10))
    cartpole(tmp_path / "ars", strategy="ars", generations=1).run()
    for changes, said in [
        ({}, "start_from_spread needs start_from: name the run"),
        (
            {"start_from": tmp_path / "ars", "strategy": "ars"},
            "strategy ars can't begin with another search's",
        ),
        ({"start_from": tmp_path / "start.npy"}, "start.npy is a file of parameters"),
        ({"start_from": tmp_path / "ars"}, "ars has no spread to begin with"),
    ]:
        with pytest.raises(UsageError, match=said):
            cartpole(tmp_path / "new", start_from_spread=True, **changes).run()
    assert not (tmp_path / "new").exists()
    limited = FunctionProblem(sphere, np.ones(3), start_spread=WIDTHS)
    with pytest.raises(UsageError, match="covariance limited has no spread to begin with"):
        CMAES(covariance="limited").check(limited)
