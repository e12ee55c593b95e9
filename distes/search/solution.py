"""A run's solution in use: scored on fresh seeds, at chosen contexts, or made callable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from distes.errors import UsageError, require_at_least
from distes.policies.base import Policy
from distes.population.distributions import Point
from distes.population.records import Population, Purpose, RunKey
from distes.population.statistics import Score, compute_score
from distes.runs.reader import Run, load
from distes.runs.tables import name_columns
from distes.search.evaluator import make_evaluator
from distes.search.settings import Settings
from distes.search.trust import rebuild_settings, recall_features
from distes.seeds import policy_generator
from distes.tasks.base import AnyTask
from distes.tasks.contexts import parse_contexts
from distes.types import FloatArray

MAX_CONTEXTS = 10_000
"""Most contexts of a grid: each costs several episodes."""

SEEN = (0.025, 0.975)
"""Quantiles of a run's contexts between which its context space lies, where nothing else
says what it is."""


def evaluate(
    path: str | Path,
    *,
    episodes: int = 100,
    seed: int = 0,
    workers: int | Literal["auto"] = 0,
    trust: bool = False,
) -> Score:
    """Score a run's solution on fresh seeds; a run in progress gives its newest.

    The solution of a contextual run meets fresh contexts.

    Args:
        path: run directory.
        episodes: how many.
        seed: another seed gives other episodes; none was ever searched on.
        workers: as in `Search`.
        trust: import and run what the run names, though it is not known to be one of yours
            (docs/security.md).

    Raises:
        UsageError: there is no such run, nothing to evaluate yet, or it names code that is
            not trusted.
    """
    run, settings = _load_with_settings(path, trust=trust)
    return compute_score(_run_test(settings, read_solution(run), episodes, seed, workers))


def evaluate_contexts(
    path: str | Path,
    contexts: Any = None,
    *,
    grid: int | None = None,
    episodes: int | None = None,
    seed: int = 0,
    workers: int | Literal["auto"] = 0,
    trust: bool = False,
) -> pd.DataFrame:
    """Score a run's solution in chosen contexts, all on the same episode seeds.

    The environment must take them up: ``reset(options={"context": ...})``.

    Args:
        path: run directory.
        contexts: (k,) or (m, k).
        grid: instead, so many points along each component of the context space: from
            ``context_low`` to ``context_high``, or over the middle 95% of the contexts that
            the search saw.
        episodes: in each context; None is 100 for a single one, else 20.
        seed: as in `evaluate`.
        workers: as in `Search`.
        trust: as in `evaluate`.

    Returns:
        One row for each context: ``context_0`` ..., or ``context_NAME`` where the environment
        names them, and the score's columns.

    Raises:
        UsageError: there is no such run, nothing to evaluate yet, it names code that is not
            trusted, the contexts do not fit the task, or the environment does not take them
            up.
    """
    if contexts is None and grid is None:
        raise UsageError("contexts or grid: say where to evaluate")
    if contexts is not None and grid is not None:
        raise UsageError("context and grid both say where to evaluate: give one")
    run, settings = _load_with_settings(path, trust=trust)
    task = settings.resolved_task
    if grid is None:
        chosen = parse_contexts(contexts, task.num_contexts, task.name)
    else:
        chosen = _lay_grid(run, task, grid)
    default = 100 if len(chosen) == 1 else 20
    count = default if episodes is None else episodes
    returns = _run_test(settings, impose_contexts(read_solution(run), chosen), count, seed, workers)
    columns = name_columns(list(chosen.T), run.context_names)
    scores = [vars(compute_score(each)) for each in returns.reshape(len(chosen), count)]
    return pd.concat([pd.DataFrame(columns), pd.DataFrame(scores)], axis=1)


def _load_with_settings(path: str | Path, *, trust: bool) -> tuple[Run, Settings]:
    run = load(path)
    settings = rebuild_settings(run, Settings, trust=trust)
    settings.keep_engine(run)
    return run, settings


def _run_test(
    settings: Settings,
    solution: Population,
    episodes: int,
    seed: int,
    workers: int | Literal["auto"],
) -> FloatArray:
    """Run a solution on test seeds, and give the returns, by candidate and episode."""
    require_at_least("episodes", episodes, 1)
    require_at_least("seed", seed, 0)
    solution = replace(solution, episodes=episodes, purpose=Purpose.TEST)
    evaluator = make_evaluator(settings, workers)
    try:
        with threadpool_limits(1):
            answer = evaluator.submit(solution, RunKey(seed, 0)).result()
    finally:
        evaluator.close()
    return answer.episodes.episode_return


def load_policy(
    path: str | Path,
    *,
    generation: int | None = None,
    candidate: int | None = None,
    context: Any = None,
    seed: int | None = None,
    trust: bool = False,
) -> Callable[[Any], Any]:
    """Make a run's policy callable: environment observation -> action.

    A stochastic policy takes its likeliest action, or samples as in the run's scores.

    Args:
        path: run directory.
        generation: of a logged candidate; None takes the solution.
        candidate: its number within the generation.
        context: (k,) for which a contextual run's upper policy chooses the parameters; None
            takes that in which a logged candidate was tried.
        seed: of an episode, from which a stochastic policy samples; None takes its likeliest
            actions. With a logged episode's seed it acts as it did there.
        trust: as in `evaluate`.

    Raises:
        UsageError: there is no such run, generation or candidate, it names code that is not
            trusted, or the context does not fit.
    """
    if seed is not None:
        require_at_least("seed", seed, 0)

    run = load(path)
    settings = rebuild_settings(run, Settings, trust=trust)
    if generation is None and candidate is None:
        population, number = read_solution(run), 0
    else:
        population, number = find_logged_candidate(run, generation, candidate)
    if context is None and population.distribution.uses_context and generation is not None:
        context = _read_logged_context(run, generation, number)
    task = settings.resolved_task
    parameters = draw_parameters_at(population, (task.num_contexts, task.name), context, number)
    return bind_policy(settings.built_policy(), population, parameters, seed)


def load_parameters(path: str | Path, *, context: Any = None, trust: bool = False) -> FloatArray:
    """Read the parameters of a run's solution.

    Nothing that the run names is imported, but for features that are a function of the
    user's: parameters for a context are computed with it.

    Args:
        path: run directory.
        context: (k,) or (m, k) for which a contextual run's upper policy chooses them.
        trust: as in `evaluate`.

    Returns:
        (d,), or (m, d).

    Raises:
        UsageError: there is no such run, nothing in it yet, its features are a function that
            is not trusted, or the context does not fit.
    """
    run = load(path)
    config = run.config["search"]
    if context is not None:
        recall_features(run, trust=trust)
    name = str(config.get("env", config.get("function")))
    return draw_parameters_at(
        read_solution(run), (run.config.get("num_contexts", 0), name), context
    )


def read_solution(run: Run) -> Population:
    """Read a run's solution from its newest checkpoint.

    Raises:
        UsageError: there is no checkpoint yet.
    """
    snapshot = run.snapshot()
    if snapshot is None or snapshot.generation == 0:
        raise UsageError(f"{run.path} has no generation yet: there is nothing to evaluate")
    solution: Population = replace(snapshot.solution, probes=())
    return solution


def draw_parameters_at(
    population: Population, expected: tuple[int, str], context: Any, candidate: int = 0
) -> FloatArray:
    """Draw a candidate's parameters, for a context where they depend on one.

    Args:
        population: a solution, for example.
        expected: length of the task's contexts, and its name.
        context: (k,), (m, k), or None.
        candidate: its number.

    Returns:
        (d,), or (m, d).

    Raises:
        UsageError: there is a context too many or too few, or it does not fit.
    """
    distribution = population.distribution
    size, name = expected
    if context is None:
        if distribution.uses_context:
            raise UsageError(
                "the parameters of a contextual run depend on the context: give context, "
                f"{size} number{'s' if size > 1 else ''}"
            )
        one: FloatArray = distribution.draw(np.array([candidate]))[0].copy()
        return one
    contexts = parse_contexts(context, size, name)
    drawn = distribution.draw(np.full(len(contexts), candidate), contexts)
    return drawn if np.ndim(context) == 2 else drawn[0]


def bind_policy(
    policy: Policy, population: Population, parameters: FloatArray, seed: int | None = None
) -> Callable[[Any], Any]:
    """Bind a policy, with its population's statistics: environment observation -> action.

    Args:
        policy: built for the task.
        population: whose statistics observations are normalised by.
        parameters: (d,).
        seed: of the episode from which it samples; None takes the likeliest actions.

    Raises:
        UsageError: the parameters are not one vector.
    """
    if parameters.ndim != 1:
        raise UsageError(f"a policy acts in one context, and {len(parameters)} are given")
    act = policy.bind(parameters)
    generator = None if seed is None or not policy.stochastic else policy_generator(seed)
    mean = population.frozen.get("observation_mean")
    std = population.frozen.get("observation_std")

    def policy_function(observation: Any) -> Any:
        seen = policy.encode(observation)
        return act(seen if mean is None or std is None else (seen - mean) / std, generator)

    return policy_function


def context_range(run: Run) -> tuple[FloatArray, FloatArray]:
    """Where a run's contexts lie: its settings' bounds, or the middle of what it saw.

    Returns:
        Two (k,) arrays, least and greatest.

    Raises:
        UsageError: the run has no contexts.
    """
    settings = run.config["search"]
    low, high = settings.get("context_low"), settings.get("context_high")
    if isinstance(low, list) and isinstance(high, list):
        return np.array(low, dtype=np.float64), np.array(high, dtype=np.float64)
    seen = run.contexts()
    if seen is None or not len(seen):
        raise UsageError(f"{run.path} has no contexts")
    ends = np.quantile(seen, SEEN, axis=0)
    return ends[0], ends[1]


def find_logged_candidate(
    run: Run, generation: int | None, candidate: int | None
) -> tuple[Population, int]:
    """Find a logged candidate: its population, and its number there.

    Raises:
        UsageError: there is none, or only one of the two numbers that name it.
    """
    if generation is None or candidate is None:
        raise UsageError("a logged candidate is named by generation and candidate, both")
    known = run.generations["generation"]
    if generation not in known.to_numpy():
        raise UsageError(
            f"generation {generation} is not one of the {len(known)} of {run.path}, counted from 0"
        )
    population = run.population(generation)
    if not 0 <= candidate < population.size:
        raise UsageError(
            f"candidate {candidate} is not one of the {population.size} of generation "
            f"{generation}, counted from 0"
        )
    return population, candidate


def _read_logged_context(run: Run, generation: int, candidate: int) -> FloatArray | None:
    """The context in which a candidate was tried; None if there is not just one."""
    columns = ["candidate", "context"]
    rows = run.read("episodes", columns=columns, generations=(generation, generation + 1))
    rows = rows[rows["candidate"] == candidate]
    return np.asarray(rows["context"].iloc[0]) if len(rows) == 1 else None


def _lay_grid(run: Run, task: AnyTask, points: int) -> FloatArray:
    """Contexts on a grid, (m, k); a component that does not vary has one point."""
    require_at_least("grid", points, 1)
    if task.context is None:
        raise UsageError(f"{task.name} has no contexts: there is no grid of them")
    low, high = context_range(run)
    if points == 1:
        low = high = (low + high) / 2
    count = points ** int((low < high).sum())
    if count > MAX_CONTEXTS:
        raise UsageError(
            f"grid {points} is {count:,} contexts of {len(low)} components, more than "
            f"{MAX_CONTEXTS:,}: give fewer points, or single contexts"
        )
    axes = [np.unique(np.linspace(*ends, points)) for ends in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(low))


def impose_contexts(solution: Population, contexts: FloatArray) -> Population:
    """Impose contexts (m, k) on a solution, one candidate each, on the same episode seeds."""
    distribution = solution.distribution
    if not distribution.uses_context:
        distribution = Point(distribution.draw(np.zeros(1, dtype=np.int64))[0])
    count = len(contexts)
    return replace(
        solution, distribution=distribution, size=count, seed_group=count, contexts=contexts
    )
