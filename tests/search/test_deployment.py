"""What is deployed at the end of a run: which solution, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import environments
import numpy as np
import pytest
from searches import StopAt, assert_same_run

import distes
from distes.errors import UsageError
from distes.population.records import Population, Purpose, RunKey
from distes.search.problem import SearchProblem
from distes.search.search import Search
from distes.strategies import CEM, CMAES, ICEM, External, RandomSearch, Reinforce
from distes.strategies.base import Strategy
from distes.tasks.function import FunctionTask
from distes.views.report import describe_run


class Leaving(CEM):
    """Goes to the optimum, and then away from it."""

    def solution(self, problem: Any, state: Any) -> Population:
        found = super().solution(problem, state)
        away = np.abs(state.generation - 4.0)
        return distes.Population(distes.distributions.Point(np.full(3, away)), 1, found.episodes)


def search(out: Path, strategy: Any = None, **changes: Any) -> Search:
    some: dict[str, Any] = {"generations": 8, "population": 20, "heldout_every": 1, "workers": 0}
    some |= {"heldout_episodes": 5, "final_episodes": 9, "seed": 3, "out": out}
    task = FunctionTask(environments.noisy_sphere, 3, noisy=True)
    return Search(task, strategy=Leaving() if strategy is None else strategy, **(some | changes))


def test_the_best_heldout_solution_is_kept_and_deployed(tmp_path: Path) -> None:
    """If wrong: a run that got worse gives away the best that it has seen."""
    newest = search(tmp_path / "mean", reevaluate=0).run()
    best = search(tmp_path / "best", deploy="best-heldout", reevaluate=0).run()
    heldout = best.run.evaluations.query("purpose == 'heldout'")
    means = heldout.groupby("generation")["episode_return"].mean()
    assert list(means.index) == list(range(8)), "each joins the generation after which it is"
    chosen = int(means.idxmax())
    assert chosen < 7
    assert best.deployed == (
        f"the solution after generation {chosen}, whose held-out score {means.max():.5g} is the "
        "best"
    )
    np.testing.assert_array_equal(best.parameters, np.full(3, abs(chosen + 1 - 4.0)))
    assert newest.deployed == "the strategy's solution after generation 7"
    np.testing.assert_array_equal(newest.parameters, np.full(3, 4.0))
    assert best.score.mean > newest.score.mean + 1
    fresh = best.run.evaluations.query("purpose == 'test'")
    assert not set(fresh["seed"]) & set(heldout["seed"]), "the best of several is flattered there"
    assert best.score.mean == fresh["episode_return"].mean()
    assert f"deployed {best.deployed[:30]}" in " ".join(describe_run(best.path).split())
    np.testing.assert_array_equal(distes.load_parameters(best.path), best.parameters)


def test_the_best_is_remembered_over_an_interruption(tmp_path: Path) -> None:
    """If wrong: a resumed run deploys something else."""
    whole = search(tmp_path / "whole", deploy="best-heldout").run()
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "cut", deploy="best-heldout", observers=(StopAt(5),)).run()
    again = search(tmp_path / "cut", deploy="best-heldout").proceed()
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
    assert (again.deployed, again.score) == (whole.deployed, whole.score)


def test_why_is_said_in_returns(tmp_path: Path) -> None:
    """If wrong: nobody knows whether the mean or a candidate was deployed, nor for what."""
    better = search(tmp_path / "better", population=400, generations=1).run()
    episodes = better.run.evaluations.query("purpose == 'reevaluation'")
    own = episodes.query("call == -1")["episode_return"].mean()
    fresh = episodes.query("call == 0").groupby("candidate")["episode_return"].mean().max()
    number = int(better.deployed.split()[1])
    assert better.deployed == (
        f"candidate {number} of generation 0, clearly better than the solution's {own:.5g} on the "
        f"same fresh seeds: {fresh:.5g}"
    )
    drawn = better.run.population(0).distribution.draw(np.array([number]))[0]
    np.testing.assert_array_equal(better.parameters, drawn)

    # Its solution is a candidate: none is better on the same seeds.
    kept = search(tmp_path / "kept", RandomSearch(), generations=3).run()
    assert kept.deployed.startswith(
        "the strategy's solution after generation 2: no top candidate is clearly better than its "
    )
    reached = search(tmp_path / "reached", CEM(), generations=50, target=-1.0).run()
    assert "which reached the target twice: " in reached.deployed
    last = len(reached.run.generations) - 1
    assert reached.deployed.startswith(f"the solution after generation {last - 1}, ")
    event = json.loads((tmp_path / "reached" / "events.jsonl").read_text().splitlines()[-1])
    assert event["deployed"] == reached.deployed
    assert reached.deployed in repr(reached)


def test_another_deployment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown deploy 'best'.*best-heldout"):
        search(tmp_path / "run", deploy="best")


class Further(CEM):
    """Tries further populations, as a strategy may."""

    def tell(self, problem: Any, state: Any, population: Any, episodes: Any) -> Any:
        problem.run(problem.population(population.distribution, 3))
        return super().tell(problem, state, population, episodes)


def test_every_evaluation_joins_one_generation(tmp_path: Path) -> None:
    """If wrong: scores can't be laid beside the generations that they belong to."""
    run = search(tmp_path / "run", Further(), heldout_every=3).run().run
    rows = run.evaluations
    joined = rows.merge(run.generations, on="generation", how="inner", validate="many_to_one")
    assert len(joined) == len(rows)
    keys = ["purpose", "generation", "call", "candidate", "episode"]
    assert not rows.duplicated(keys).any()
    last = rows[rows["generation"] == 7].groupby(["purpose", "call"]).size().to_dict()
    ends = {("heldout", -1): 5, ("reevaluation", -1): 5, ("reevaluation", 0): 25, ("test", 0): 9}
    assert last == {**ends, ("reevaluation", 1): 3}
    # The seeds are those of a generation that was never run: as they always were.
    seeds = rows[(rows["purpose"] == "test")]["seed"].to_numpy()
    asked = Population(distes.distributions.Point(np.zeros(3)), 1, 9, purpose=Purpose.TEST)
    np.testing.assert_array_equal(seeds, asked.seeds(RunKey(3, 8), 0, 9))


@pytest.mark.parametrize("given", [None, 30])
@pytest.mark.parametrize("strategy", [CEM(), ICEM(), CMAES(), RandomSearch(), Reinforce()])
def test_the_size_that_is_said_is_that_of_the_first_generation(
    strategy: Strategy[Any], given: int | None
) -> None:
    """If wrong: a run costs more than its first line says."""
    policy: Any = "softmax" if isinstance(strategy, Reinforce) else None
    made = Search(
        "CartPole-v1", strategy=strategy, population=given, policy=policy, workers=0,
        normalize_observations=isinstance(strategy, CEM),
    )  # fmt: skip
    problem: SearchProblem = made.check()
    own = made.resolved_strategy
    assert made.count_candidates() == own.ask(problem, own.init(problem)).size


def test_a_size_that_is_not_known_before_is_not_said() -> None:
    """If wrong: an optimiser of somebody else's is said to ask for nobody."""
    factory: Callable[..., Any] = environments.sphere
    made = Search(FunctionTask(environments.sphere, 2), strategy=External(factory), workers=0)
    assert made.count_candidates() is None
