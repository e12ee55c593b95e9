"""Contexts in runs: where they come from, that they are the same everywhere, what is refused."""

from __future__ import annotations

import itertools
import os
import shlex
import signal
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import environments
import numpy as np
import pandas as pd
import pytest
from marks import slow
from searches import StopAt, assert_same_run

import distes
from distes.cli import main
from distes.engines import choice
from distes.errors import Notice, RunFailed, UsageError
from distes.policies.linear import Linear
from distes.population.features import build_features
from distes.population.records import RECORDS, Population, RunKey, Status
from distes.population.upper_policies import LinearGaussian
from distes.search.search import Search
from distes.seeds import context_generator, noise_key
from distes.strategies import CCMAES, CEM, CREPS, MORE, HiREPS
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask
from distes.tasks.purity import check

KEY = RunKey(seed=3, generation=2)
BOUNDS: Any = {"context_low": (-1.0, 0.0), "context_high": (1.0, 2.0)}

SOURCES: dict[str, Task] = {
    "observation": Task(environments.windy, context="observation"),
    "components": Task(environments.windy, context="observation:2,1"),
    "info": Task(environments.windy, context="info"),
    "uniform": Task(environments.windy, context="uniform", **BOUNDS),
    "uniform, not shown": Task(environments.mute, context="uniform", **BOUNDS),
    "sampler": Task(environments.windy, context=environments.near_zero),
}


def upper(task: Any, num_parameters: int, size: int, **changes: Any) -> Population:
    """A population of an upper policy that depends on all components of the context."""
    features = build_features("quadratic", task.num_contexts)
    weights = np.random.default_rng(1).normal(size=(features.num_features, num_parameters))
    key = noise_key(KEY.seed, KEY.generation)
    return Population(
        LinearGaussian(weights, np.ones(num_parameters), features, key), size, **changes
    )


def engine_for(task: Any) -> Any:
    policy = task.build_policy(None if isinstance(task, FunctionTask) else Linear())
    engine = "function" if isinstance(task, FunctionTask) else "loop"
    return choice.make(engine, task, policy), policy


@pytest.mark.parametrize("name", SOURCES)
def test_an_episode_has_the_context_that_its_reset_shows(name: str) -> None:
    """A context of another episode would teach the upper policy nonsense."""
    task = SOURCES[name]
    engine, policy = engine_for(task)
    population = upper(task, policy.num_parameters, 8, episodes=2)
    chunk = engine.run(population, KEY, 0, 16)
    assert (chunk.rows["status"] == Status.OK).all()
    assert len(np.unique(chunk.contexts, axis=0)) == 16
    parameters = population.distribution.draw(np.repeat(np.arange(8), 2), chunk.contexts)
    for i, seed in enumerate(population.seeds(KEY, 0, 16).tolist()):
        context = chunk.contexts[i]
        env = task.make_env()
        options = {"context": context} if task.contexts.sampled else None
        observation, info = env.reset(seed=seed, options=options)
        shown = {
            "observation": observation,
            "components": observation[[2, 1]],
            "info": info.get("context"),
        }.get(name, [env.unwrapped.goal, env.unwrapped.wind])  # type: ignore[attr-defined]
        np.testing.assert_array_equal(context, shown)
        act = policy.bind(parameters[i])
        total, ended = 0.0, False
        while not ended:
            observation, reward, ended, _, _ = env.step(act(policy.encode(observation), None))
            total += float(reward)
        assert chunk.rows["episode_return"][i] == total
    if "uniform" in name:
        assert (chunk.contexts >= [-1, 0]).all()
        assert (chunk.contexts <= [1, 2]).all()


@pytest.mark.parametrize("name", [*SOURCES, "function"])
def test_contexts_do_not_depend_on_the_chunks(name: str) -> None:
    """Where a population is cut, and in what order it runs, must not show in a bit."""
    task = SOURCES.get(name) or FunctionTask(
        environments.noisy_bowl, 3, noisy=True, context=environments.near_zero
    )
    engine, policy = engine_for(task)
    population = upper(task, policy.num_parameters, 15, episodes=2)
    whole = engine.run(population, KEY, 0, 30)
    for cuts in ([1, 2, 3, 17], [16], list(range(1, 30))):
        pieces = list(itertools.pairwise([0, *cuts, 30]))
        parts = [engine.run(population, KEY, a, b) for a, b in reversed(pieces)][::-1]
        np.testing.assert_array_equal(np.concatenate([p.contexts for p in parts]), whole.contexts)
        returns = np.concatenate([p.rows["episode_return"] for p in parts])
        np.testing.assert_array_equal(returns, whole.rows["episode_return"])


def test_uniform_contexts_are_uniform_and_independent() -> None:
    """Contexts that follow the seed, or each other, would leave parts of the space unseen."""
    task = FunctionTask(environments.bowl, 3, context="uniform", **BOUNDS)
    drawn = task.contexts.sample(np.arange(20_000))
    scaled = (drawn - [-1, 0]) / 2
    for column in scaled.T:
        distance = np.abs(np.sort(column) - (np.arange(20_000) + 0.5) / 20_000).max()
        assert distance < 1.63 / np.sqrt(20_000)  # Kolmogorov-Smirnov at 1%
    assert abs(np.corrcoef(scaled.T)[0, 1]) < 2.58 / np.sqrt(20_000)
    assert abs(np.corrcoef(scaled[:-1, 0], scaled[1:, 0])[0, 1]) < 2.58 / np.sqrt(20_000)


def test_imposed_contexts_reach_the_reset_and_are_logged_as_it_shows_them() -> None:
    """An upper policy's parameters belong to the context that the episode really has."""
    contexts = np.array([[0.3, -0.7], [0.1, 0.2], [0.3, -0.7]])
    for task in (SOURCES["info"], SOURCES["components"], SOURCES["sampler"]):
        engine, policy = engine_for(task)
        asked = contexts[:, ::-1] if task.context == "observation:2,1" else contexts
        # The environment takes (goal, wind); components 2,1 show (wind, goal).
        population = upper(task, policy.num_parameters, 3, contexts=contexts, seed_group=3)
        if task.context == "observation:2,1":
            with pytest.raises(UsageError, match="does not take up"):
                engine.run(population, KEY, 0, 3)
            continue
        chunk = engine.run(population, KEY, 0, 3)
        np.testing.assert_allclose(chunk.contexts, asked)
    point = Population(population.distribution, 3, contexts=np.zeros((3, 3)))
    with pytest.raises(UsageError, match="a context has 3 components, those of windy have 2"):
        engine.run(point, KEY, 0, 3)


def test_a_context_that_is_not_a_number_fails_its_episode_alone() -> None:
    """A simulator that diverges once in a thousand resets must not end the run."""
    task = Task(environments.slowly_lost, context="info")
    engine, policy = engine_for(task)
    population = upper(task, policy.num_parameters, 60)
    chunk = engine.run(population, KEY, 0, 60)
    lost = population.seeds(KEY, 0, 60) % 7 == 3
    assert 0 < lost.sum() < 30
    np.testing.assert_array_equal(chunk.rows["status"] == Status.ERROR, lost)
    np.testing.assert_array_equal(np.isnan(chunk.contexts).any(axis=1), lost)
    assert "is not finite" in chunk.faults[0][1]


def fragile_sampler(generator: Any) -> Any:
    """A sampler that fails now and then, in two ways."""
    drawn = environments.near_zero(generator)
    if drawn[0] > 0.1:
        raise ArithmeticError("this one can't be drawn")
    return [np.nan, 0.0] if drawn[1] > 0.1 else drawn


FRAGILE: dict[str, Any] = {
    "environment": Task(environments.windy, context=fragile_sampler),
    "function": FunctionTask(environments.noisy_bowl, 3, noisy=True, context=fragile_sampler),
    "vectorised": FunctionTask(environments.bowls, 3, vectorised=True, context=fragile_sampler),
}


@pytest.mark.parametrize("name", FRAGILE)
def test_a_sampler_that_fails_costs_its_episode_alone(name: str) -> None:
    """A context that can't be drawn once in a thousand times must not end the run."""
    task = FRAGILE[name]
    engine, policy = engine_for(task)
    population = upper(task, policy.num_parameters, 60)
    chunk = engine.run(population, KEY, 0, 60)
    seeds = population.seeds(KEY, 0, 60)
    drawn = np.array([environments.near_zero(context_generator(seed)) for seed in seeds])
    lost = (drawn > 0.1).any(axis=1)
    assert 0 < lost.sum() < 30
    np.testing.assert_array_equal(chunk.rows["status"] == Status.ERROR, lost)
    np.testing.assert_array_equal(np.isnan(chunk.rows["episode_return"]), lost)
    np.testing.assert_array_equal(chunk.contexts[~lost], drawn[~lost])
    assert np.isnan(chunk.contexts[lost]).all()
    said = dict(chunk.faults)
    assert list(said) == np.flatnonzero(lost)[: len(said)].tolist()
    for number, traceback in said.items():
        expected = "can't be drawn" if drawn[number, 0] > 0.1 else "is not finite"
        assert expected in traceback
        assert "fragile_sampler" in traceback or expected == "is not finite"
    # One alone, failed or not, is what it is among others.
    for i in (int(np.flatnonzero(lost)[0]), int(np.flatnonzero(~lost)[0])):
        alone = engine.run(population, KEY, i, i + 1)
        np.testing.assert_array_equal(alone.contexts, chunk.contexts[i : i + 1])
        for column in ("episode_return", "status"):
            np.testing.assert_array_equal(alone.rows[column], chunk.rows[column][i : i + 1])


def test_a_trajectory_without_a_context_has_no_steps() -> None:
    task = FRAGILE["environment"]
    engine, policy = engine_for(task)
    population = upper(task, policy.num_parameters, 20)
    chunk = engine.run(population, KEY, 0, 20)
    recorded = engine.run(replace(population, records=RECORDS), KEY, 0, 20)
    steps = recorded.trajectories.lengths
    np.testing.assert_array_equal(steps, chunk.rows["episode_length"])
    assert 0 in steps


def test_a_run_goes_on_without_a_samplers_faults(tmp_path: Path) -> None:
    result = contextual(tmp_path / "run", task=FRAGILE["environment"]).run()
    rows = result.run.episodes
    assert 0 < (rows["status"] == "error").sum() < len(rows) / 2


def test_a_sampler_that_always_fails_is_refused(tmp_path: Path) -> None:
    def never(generator: Any) -> Any:
        raise ArithmeticError("there are\nno contexts")

    for task in (Task(environments.windy, context=never),
                 FunctionTask(environments.bowl, 3, context=never)):  # fmt: skip
        says = "the context sampler never fails: ArithmeticError: there are no contexts"
        with pytest.raises(UsageError, match=says) as refusal:
            contextual(tmp_path / "run", task=task).run()
        assert "\n" not in str(refusal.value)
        assert not (tmp_path / "run").exists()


def spoiling(parameters: Any, context: Any, seed: Any) -> Any:
    """Computes in place with all that it is given, and fails if it gets many rows."""
    value = -np.sum((parameters - context[..., :1]) ** 2, axis=-1)
    parameters *= 0
    context += 100
    if np.ndim(seed):
        seed += 1
    if len(np.atleast_2d(parameters)) == 5:
        raise RuntimeError("too many")
    return value


@pytest.mark.parametrize("vectorised", [False, True])
@pytest.mark.parametrize("size", [5, 6])
def test_a_function_cannot_spoil_the_log(vectorised: bool, size: int) -> None:
    """Contexts are logged after the calls, and a call that failed is made again in parts."""
    task = FunctionTask(spoiling, 3, noisy=True, vectorised=vectorised, context="uniform", **BOUNDS)
    engine, _ = engine_for(task)
    for imposed in (None, np.random.default_rng(0).uniform(0, 1, (size, 2))):
        population = upper(task, 3, size, contexts=imposed)
        before = None if imposed is None else imposed.copy()
        chunk = engine.run(population, KEY, 0, size)
        contexts = task.contexts.sample(population.seeds(KEY, 0, size))
        np.testing.assert_array_equal(chunk.contexts, contexts if before is None else before)
        if before is not None:
            np.testing.assert_array_equal(population.contexts, before)
        drawn = population.distribution.draw(np.arange(size), chunk.contexts)
        expected = -np.sum((drawn - chunk.contexts[:, :1]) ** 2, axis=1)
        np.testing.assert_array_equal(chunk.rows["episode_return"], expected)


def in_place(contexts: Any) -> Any:
    """Features that are computed in the array of the contexts."""
    contexts *= 2
    return contexts


def test_features_computed_in_place_leave_contexts_as_they_are() -> None:
    """An upper policy of another context than the one that is logged learns nonsense."""
    for task in (SOURCES["info"], SOURCES["uniform"]):
        engine, policy = engine_for(task)
        weights = np.random.default_rng(1).normal(size=(2, policy.num_parameters))
        scale = np.ones(policy.num_parameters)
        key = noise_key(KEY.seed, KEY.generation)
        chunks = [
            engine.run(
                Population(LinearGaussian(factor * weights, scale, basis, key), 8), KEY, 0, 8
            )
            for basis, factor in (
                (build_features(in_place, 2), 1.0),
                (build_features("linear", 2), 2.0),
            )
        ]
        np.testing.assert_array_equal(chunks[0].contexts, chunks[1].contexts)
        returns = [chunk.rows["episode_return"] for chunk in chunks]
        np.testing.assert_array_equal(*returns)


@pytest.mark.parametrize("size", [1e-8, 1.0, 1e5])
@pytest.mark.parametrize("bounded", [True, False])
def test_another_context_is_another_at_any_size(size: float, bounded: bool) -> None:
    """Contexts in metres and in micrometres must be looked at alike."""
    bounds: Any = {"context_low": (0.0, -size), "context_high": (size, size)}
    task = FunctionTask(
        environments.bowl, 3, context=environments.near_zero, **(bounds if bounded else {})
    )

    def settle(asked: Any, shown: Any) -> Any:
        shows = np.zeros(3), {"context": shown}
        return task.contexts.settle("env", np.asarray, shows, np.array(asked), 2)

    for asked in ([0.5 * size, 0.25 * size], [0.3 * size, 0.0]):
        rounded = np.array(asked, dtype=np.float32)
        np.testing.assert_array_equal(settle(asked, rounded), asked)
        with pytest.raises(UsageError, match="does not take up"):
            settle(asked, [0.4 * size, asked[1]])


QUIET: dict[str, tuple[Any, int]] = {
    "environment that shows none": (Task(environments.mute, context="uniform", **BOUNDS), 1),
    "deaf and mute": (Task(environments.deaf_mute, context=environments.near_zero), 1),
    "Gymnasium's own": (Task("CartPole-v1", context="uniform", **BOUNDS), 1),
    "shown": (SOURCES["uniform"], 0),
    "read": (SOURCES["observation"], 0),
    "none": (Task(environments.mute), 0),
    "function": (FunctionTask(environments.bowl, 3, context="uniform", **BOUNDS), 0),
}


@pytest.mark.parametrize("name", QUIET)
def test_contexts_that_may_be_passed_over_are_told_of_once(tmp_path: Path, name: str) -> None:
    """An environment without contexts accepts them all, and the run looks fine."""
    task, times = QUIET[name]
    strategy = CREPS() if task.context else CEM()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        contextual(tmp_path / "run", task=task, strategy=strategy, generations=2).run()
    said = [str(each.message) for each in caught if issubclass(each.category, Notice)]
    said = [each for each in said if "distes check" in each]
    assert len(said) == times
    for each in said:
        assert task.name in each
        assert "\n" not in each


def contextual(out: Path, **changes: Any) -> Search:
    settings: dict[str, Any] = {"population": 40, "generations": 4, "seed": 5, "heldout_every": 2}
    settings |= {"heldout_episodes": 6, "final_episodes": 9, "workers": 0, "strategy": CREPS()}
    settings |= {"task": SOURCES["uniform"]}
    return Search(out=out, **(settings | changes))


def vectors(column: pd.Series) -> Any:
    return np.stack(column.to_list())


@pytest.mark.parametrize("name", [*SOURCES, "function"])
def test_the_log_holds_each_episodes_context_and_parameters(tmp_path: Path, name: str) -> None:
    """Whoever reads the tables must find what the upper policy drew, and for which context."""
    task = SOURCES.get(name) or FunctionTask(environments.bowl, 3, context="uniform", **BOUNDS)
    result = contextual(tmp_path / "run", task=task).run()
    run = result.run
    assert run.config["num_contexts"] == task.num_contexts
    for generation, rows in run.episodes.groupby("generation"):
        distribution = run.population(int(generation)).distribution
        contexts = vectors(rows["context"])
        assert contexts.shape == (40, task.num_contexts)
        drawn = distribution.draw(rows["candidate"].to_numpy(), contexts)
        np.testing.assert_array_equal(drawn, vectors(rows["parameters"]))
        assert len(np.unique(contexts, axis=0)) == 40
    np.testing.assert_array_equal(run.contexts(), vectors(run.episodes["context"]))


def test_the_solution_is_scored_on_fresh_contexts(tmp_path: Path) -> None:
    """On contexts of the search itself, an upper policy that learnt them by heart looks good."""
    run = contextual(tmp_path / "run").run().run
    rows = run.evaluations
    assert rows.groupby("purpose").size().to_dict() == {"heldout": 12, "test": 9}
    fresh = {tuple(each) for each in vectors(rows["context"])}
    assert len(fresh) == len(rows)
    assert not fresh & {tuple(each) for each in vectors(run.episodes["context"])}
    solution = run.snapshot().solution.distribution
    test = rows[rows["purpose"] == "test"]
    drawn = solution.draw(np.zeros(9, dtype=np.int64), vectors(test["context"]))
    np.testing.assert_array_equal(drawn, vectors(test["parameters"]))
    assert len(np.unique(drawn, axis=0)) == 9


def test_strategies_without_contexts_run_on_contextual_tasks(tmp_path: Path) -> None:
    """One vector for all contexts is the baseline that an upper policy must beat."""
    result = contextual(tmp_path / "run", strategy=CEM(), policy="linear", episodes=3).run()
    assert vectors(result.run.episodes["context"]).shape == (4 * 40 * 3, 2)
    assert result.parameters.shape == (4,)


@pytest.mark.parametrize(
    "strategy",
    [
        CREPS(policy_features="rbf:9", dual_features="rbf:6"),
        HiREPS(policy_features="rbf:9", dual_features="rbf:6", gating_features="rbf:3"),
        MORE(policy_features="rbf:9", baseline_features="rbf:6"),
        CCMAES(policy_features="rbf:9", baseline_features="rbf:6"),
    ],
    ids=lambda strategy: type(strategy).__name__,
)
def test_a_bad_first_generation_does_not_fix_the_features(tmp_path: Path, strategy: Any) -> None:
    """Three valid episodes once meant three bumps for the whole run."""
    calls = itertools.count()

    def poor_start(parameters: Any, context: Any) -> float:
        if 3 <= next(calls) < 60:
            raise ArithmeticError("not yet")
        return environments.bowl(parameters, context)

    task = FunctionTask(poor_start, 3, context="uniform", **BOUNDS)
    settings: dict[str, Any] = {"task": task, "strategy": strategy, "max_failed_fraction": 1.0}
    settings |= {"population": 60, "generations": 3, "heldout_every": 9}
    run = contextual(tmp_path / "run", **settings).run().run
    few, more = (run.population(generation).distribution.features for generation in (1, 2))
    assert few.num_features <= 3  # some do not learn from three samples at all
    assert more.num_features == 10
    contexts = np.random.default_rng(0).uniform([-1, 0], [1, 2], (20, 2))
    np.testing.assert_array_equal(more(contexts)[:, : few.num_features], few(contexts))


@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_resume_with_contexts(tmp_path: Path, stop_after: int) -> None:
    """Contexts, and the function that makes features of them, must come back."""
    strategy = CREPS(policy_features=environments.bumps)
    contextual(tmp_path / "whole", strategy=strategy).run()
    with pytest.raises(KeyboardInterrupt):
        contextual(
            tmp_path / "cut", strategy=strategy, observers=(StopAt(stop_after),)
        ).run()  # fmt: skip
    Search.resume(tmp_path / "cut", workers=0)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize("name", ["observation", slow("uniform"), slow("sampler")])
@pytest.mark.parametrize("workers", [slow(1), 2, slow(5)])
def test_the_same_run_at_any_number_of_workers(
    tmp_path: Path, ray_local: Any, workers: int, name: str
) -> None:
    """Contexts and what is drawn for them depend on the episode alone, to the last bit."""
    changes = {"task": SOURCES[name], "strategy": CREPS(policy_features=environments.bumps)}
    contextual(tmp_path / "serial", **changes).run()
    contextual(tmp_path / "ray", workers=workers, **changes).run()
    assert_same_run(tmp_path / "ray", tmp_path / "serial")


@dataclass(frozen=True)
class Fatal:
    """A bowl that kills the process of whoever meets a context above 1.9, once."""

    once: str
    __name__ = "fatal"

    def __call__(self, parameters: Any, context: Any) -> float:
        time.sleep(0.002)
        if self.once and context[1] > 1.9:
            try:
                Path(self.once).touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return environments.bowl(parameters, context)


def test_a_killed_worker_does_not_change_contexts(tmp_path: Path, ray_local: Any) -> None:
    """Episodes that run again meet the same contexts, with the same parameters; then resume."""

    def search(name: str, once: str, **changes: Any) -> Search:
        task = FunctionTask(Fatal(once), 3, context="uniform", **BOUNDS)
        return contextual(tmp_path / name, task=task, **changes)

    search("serial", "").run()
    once = tmp_path / "once"
    cut = search("ray", str(once), workers=2, observers=(StopAt(1),))
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    assert once.exists()
    assert any(e["kind"] == "worker_lost" for e in distes.load(tmp_path / "ray").events)
    search("ray", str(once)).proceed()
    assert_same_run(tmp_path / "ray", tmp_path / "serial")


SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"context": "observations"}, "unknown context 'observations': did you mean 'observation'"),
    ({"context": "uniform:2"}, "unknown context 'uniform:2'"),
    ({"context": "info:goal"}, "unknown context 'info:goal'"),
    ({"context": "observation:"}, "'observation:' is not observation:INDICES"),
    ({"context": "observation:1,x"}, "'observation:1,x' is not observation:INDICES"),
    ({"context": "observation:-1"}, "'observation:-1' is not observation:INDICES"),
    ({"context": "uniform"}, "context 'uniform' needs context_low and context_high"),
    ({"context_low": (0.0,), "context_high": (1.0,)}, "are given without context"),
    ({"context": "info", "context_low": (0.0,)}, "belong together"),
    (
        {"context": "uniform", "context_low": (0.0,), "context_high": (1.0, 2.0)},
        "context_low has 1 numbers, context_high 2",
    ),
    ({"context": "uniform", "context_low": (), "context_high": ()}, "context_low has 0 numbers"),
    (
        {"context": "uniform", "context_low": (1.0,), "context_high": (0.0,)},
        r"context_low \[1.0\] is not below context_high \[0.0\]",
    ),
    (
        {"context": "uniform", "context_low": (np.nan,), "context_high": (0.0,)},
        "is not below context_high",
    ),
]


@pytest.mark.parametrize(("settings", "says"), SETTINGS)
def test_settings_that_say_no_context_are_refused_at_once(
    settings: dict[str, Any], says: str
) -> None:
    for make_task in (
        lambda: Task(environments.windy, **settings),
        lambda: FunctionTask(environments.bowl, 3, **settings),
    ):
        with pytest.raises(UsageError, match=says) as refusal:
            make_task()
        assert "\n" not in str(refusal.value)


UNFIT: list[tuple[Any, str]] = [
    (
        Task(environments.windy, context="observation:9"),
        "asks for component 9 of an observation with 3 components",
    ),
    (
        Task(environments.walk, context="info"),
        r"needs info\['context'\] of reset, and the environment gives an empty info",
    ),
    (Task(environments.lost, context="info"), r"the context \[nan, 0.0\] is not finite"),
    (
        Task(environments.windy, context="info", context_low=(0.0,), context_high=(1.0,)),
        "context_low has 1 number, and a context of windy 2",
    ),
    (
        Task(environments.deaf, context="uniform", **BOUNDS),
        r"does not take up reset\(options=",
    ),
    (
        Task(environments.windy, context=environments.short_sampler),
        r"windy can't be reset with the context \[0.5\]: ValueError: not enough values",
    ),
    (Task(environments.windy, context=environments.nan_sampler), "is not finite"),
    (
        FunctionTask(environments.bowl, 3, context=environments.near_zero,
                     context_low=(0.0,), context_high=(1.0,)),
        r"a context has shape \(2,\), \(1,\) is due",
    ),
    (FunctionTask(environments.bowl, 3, context=environments.nan_sampler), "is not finite"),
    (FunctionTask(environments.bowl, 3, context=lambda generator: [[1.0]]), r"shape \(1, 1\)"),
    (FunctionTask(environments.bowl, 3, context=lambda generator: "a"), "not a vector of numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "says"), UNFIT)
def test_contexts_that_are_none_are_refused_before_anything_is_written(
    tmp_path: Path, task: Any, says: str
) -> None:
    with pytest.raises(UsageError, match=says) as refusal:
        contextual(tmp_path / "run", task=task).run()
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()


def test_functions_have_no_reset_to_read() -> None:
    with pytest.raises(UsageError, match="it has no reset to read it from"):
        FunctionTask(environments.bowl, 3, context="info")


def test_several_episodes_for_each_candidate_are_refused(tmp_path: Path) -> None:
    """Each would have its own context, and a candidate has one vector of parameters."""
    with pytest.raises(UsageError, match="episodes 2"):
        contextual(tmp_path / "run", episodes=2).run()
    assert not (tmp_path / "run").exists()


def test_an_environment_that_loses_every_context_shows_why(tmp_path: Path) -> None:
    """The first reset may be fine: then the run itself must say what is wrong."""

    class FineAtFirst(environments.Windy):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            observation, info = super().reset(seed=seed, options=options)
            return observation, info if seed == 0 else {"context": [np.nan, 0.0]}

    with pytest.raises(RunFailed, match=r"the context \[nan, 0.0\] is not finite"):
        contextual(tmp_path / "run", task=Task(FineAtFirst, context="info")).run()


COMMANDS = [
    ("--context observation:9", "asks for component 9 of an observation with 3 components"),
    ("--context observations", "did you mean 'observation'"),
    ("--context uniform --context-low 1 --context-high 0", "is not below context_high"),
    ("--context uniform --context-low 1 --context-high 2,3", "context_high 2"),
    ("--context uniform --context-low a --context-high 0", "--context-low 'a' is not numbers"),
    ("--context uniform --context-low nan --context-high 0", "--context-low 'nan' is not finite"),
    ("--context uniform", "needs context_low and context_high"),
    ("--context environments:nan_sampler", "is not finite"),
    ("--context-low 0 --context-high 1", "given without context"),
    ("--context info --episodes 2", "episodes 2"),
    ("--context info --strategy.policy-features qudratic", "did you mean 'quadratic'"),
]


@pytest.mark.parametrize(("flags", "says"), COMMANDS)
def test_the_command_line_says_it_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, flags: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    line = f"run environments:windy --strategy creps --workers 0 {flags}"
    assert main(shlex.split(line)) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("distes: ")
    assert err.count("\n") == 1
    assert says in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("env", "says"),
    [("lost --context info", "is not finite"), ("walk --context info", "info['context']"),
     ("deaf --context uniform --context-low 0,0 --context-high 1,1", "does not take up")],
)  # fmt: skip
def test_environments_without_usable_contexts_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, env: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("run", "check"):
        flags = " --strategy creps --workers 0" if command == "run" else ""
        assert main(shlex.split(f"{command} environments:{env}{flags}")) == 2
        out, err = capfd.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert says in err
    assert list(tmp_path.iterdir()) == []


def test_purity_is_checked_with_contexts() -> None:
    """A context kept from an earlier episode is a leak, and must be found where it matters."""
    pure = check(SOURCES["uniform"], histories=6, episodes=4, processes=False)
    assert pure.pure
    assert pure.other_context is not None
    assert pure.other_context.count == 4
    assert "changes 4 of 4 episodes" in str(pure)
    task = Task(environments.Stale, context="info")
    assert check(task, histories=6, episodes=4, processes=False).pure
    sampled = Task(environments.Stale, context=environments.near_zero, reuse_env=True)
    with pytest.raises(UsageError, match="does not take up"):
        check(sampled, histories=6, episodes=4, processes=False)
    silent = Task(environments.StaleMute, context=environments.near_zero, reuse_env=True)
    report = check(silent, histories=6, episodes=4, processes=False)
    assert report.reuse.count > 0
    assert not report.reproducible


def test_contexts_that_change_nothing_are_told_of() -> None:
    """An environment that ignores options and says nothing can't be refused, but noticed."""
    task = Task(environments.deaf_mute, context="uniform", **BOUNDS)
    report = check(task, histories=3, episodes=3, processes=False)
    assert report.other_context is not None
    assert report.other_context.count == 0
    assert "changes none of 3 episodes: does the environment take up" in str(report)


def test_a_context_of_the_info_alone_must_repeat() -> None:
    """It is not among the observations, and decides the parameters all the same."""
    report = check(Task(environments.Unseeded, context="info"), histories=3, processes=False)
    assert report.new_instance.count > 0
    assert check(Task(environments.Unseeded), histories=3, processes=False).pure


def test_check_takes_contexts_on_the_command_line(capfd: Any) -> None:
    line = "check environments:windy --context uniform --context-low=-1,-1 --context-high 1,1"
    assert main(shlex.split(line + " --episodes 3 --histories 3")) == 0
    out, _ = capfd.readouterr()
    assert "windy: pure" in out
    assert "other context: changes 3 of 3 episodes, as it should" in out
