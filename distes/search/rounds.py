"""How large a generation is: by its environment steps, and by a step limit that grows.

A generation begins with the strategy's own number of candidates; as long as they have taken
fewer steps than it is to have, as many candidates again follow from the same distribution. What
comes of it is what one population of that size would have given (sums over episodes are added
in another order): rounds depend on what episodes did, never on when they ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from distes.errors import UsageError
from distes.population.records import Episodes, Evaluated, Population, Rerun, RunKey, Telemetry
from distes.tasks.base import AnyTask
from distes.types import MAX_EPISODES

MAX_ROUNDS = 16
"""Of one generation: its episodes may become ever shorter."""


def open_rounds(population: Population) -> Population:
    """Let candidates of later rounds share the seeds that those of the first share.

    Raises:
        UsageError: the population cannot grow.
    """
    if population.contexts is not None or not isinstance(population.episodes, int):
        raise UsageError("a generation whose contexts are chosen has no generation_env_steps")
    if population.seed_group == population.size > 1:
        return replace(population, seed_group=population.size * MAX_ROUNDS)
    return population


def add_rounds(
    population: Population,
    evaluated: Evaluated,
    key: RunKey,
    task: AnyTask,
    env_steps: int,
    evaluate: Callable[[Population], Evaluated],
) -> tuple[Population, Evaluated]:
    """Evaluate as many candidates again, and again, until a generation has had its steps.

    Args:
        population: of the first round, from `open_rounds`; its distribution has any number of
            candidates.
        evaluated: what came of it.
        key: the generation's.
        task: the search's.
        env_steps: that the generation is to have, at least.
        evaluate: runs one round.

    Returns:
        The population of all rounds, and what came of it.
    """
    size, count = population.size, population.num_episodes
    for number in range(1, MAX_ROUNDS):
        steps = int(evaluated.episodes.episode_length.sum())
        if steps >= env_steps or (number + 1) * count > MAX_EPISODES:
            break
        population = replace(population, size=size * (number + 1))
        places = (number * count, (number + 1) * count)
        candidate, episode = population.locate(*places)
        seeds, starts = population.seeds(key, *places), population.start_seeds(key, *places)
        further = replace(population, rerun=Rerun(candidate, episode, seeds, starts))
        evaluated = _join(population, task, evaluated, evaluate(further))
    return population, evaluated


def grow_limit(max_steps: int | None, episodes: Episodes) -> int | None:
    """Double the step limit of search episodes where most of them have reached it.

    Salimans et al. (2017), section 2.1, cap episodes so that a few long ones hold up nobody.
    """
    if max_steps is None or np.mean(episodes.episode_length >= max_steps) <= 0.5:
        return max_steps
    return 2 * max_steps


def _join(population: Population, task: AnyTask, one: Evaluated, other: Evaluated) -> Evaluated:
    """Put two rounds together, and score all candidates by the task's rule."""
    first, second = one.episodes, other.episodes
    columns = {
        name: np.concatenate([getattr(first, name), getattr(second, name)])
        for name in (
            *("candidate", "episode", "seed", "episode_return", "episode_length"),
            *("terminated", "truncated", "status"),
        )
    }
    contexts = None
    if first.contexts is not None and second.contexts is not None:
        contexts = np.concatenate([first.contexts, second.contexts])
    episodes = Episodes(
        **columns,
        fitness=task.compute_fitness(
            columns["episode_return"], columns["episode_length"], population.counts()
        ),
        contexts=contexts,
        sums={name: first.sums[name] + second.sums[name] for name in first.sums},
        info={name: np.concatenate([first.info[name], second.info[name]]) for name in first.info},
    )
    telemetry = _join_telemetry(one.telemetry, other.telemetry)
    return Evaluated(episodes, telemetry, (*one.events, *other.events))


def _join_telemetry(one: Telemetry, other: Telemetry) -> Telemetry:
    nodes = tuple(dict.fromkeys((*one.nodes, *other.nodes)))
    moved = np.array([nodes.index(each) for each in other.nodes], dtype=np.int32)
    share = len(one.worker) / (len(one.worker) + len(other.worker))
    summary = {name: value + other.summary[name] for name, value in one.summary.items()}
    summary["workers"] = other.summary["workers"]
    summary["utilisation"] = (
        share * one.summary["utilisation"] + (1 - share) * other.summary["utilisation"]
    )
    return Telemetry(
        attempt=np.concatenate([one.attempt, other.attempt]),
        worker=np.concatenate([one.worker, other.worker]),
        node=np.concatenate([one.node, moved[other.node] if len(moved) else other.node]),
        nodes=nodes,
        started_at=np.concatenate([one.started_at, other.started_at]),
        duration_s=np.concatenate([one.duration_s, other.duration_s]),
        summary=summary,
    )
