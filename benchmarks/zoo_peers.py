"""Whom the zoo is measured against: the packages cma, cmaes and evotorch.

The first two are optimisers, which strategy `external` drives: task, policy, episodes, held-out
scores and stopping are ours. EvoTorch runs its own episodes with its own policies; it is stopped
as a search of ours is (`distes.search.session`), so that its steps mean the same.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from distes.errors import UsageError

INITIAL_STD, NARROW = 1.0, 0.3
"""Of both packages: neither has a default. They are those that strategy `cmaes` has there, for
linear policies and for networks."""


def make_cma(start: Any, seed: int, initial_std: float = INITIAL_STD) -> Any:
    """CMA-ES of package cma, with its own population, 4 + 3 ln d."""
    import cma

    return cma.CMAEvolutionStrategy(start, initial_std, {"seed": seed, "verbose": -9})


def make_narrow_cma(start: Any, seed: int) -> Any:
    """The same, as it begins for networks."""
    return make_cma(start, seed, NARROW)


class _Cmaes:
    """A generation at a time of package cmaes, which gives one candidate at a time."""

    def __init__(self, start: Any, seed: int, initial_std: float) -> None:
        import cmaes

        self._search = cmaes.CMA(start, initial_std, seed=seed)

    @property
    def mean(self) -> Any:
        return self._search.mean

    def ask(self) -> Any:
        return np.stack([self._search.ask() for _ in range(self._search.population_size)])

    def tell(self, solutions: Any, values: Any) -> None:
        self._search.tell(list(zip(solutions, values, strict=True)))


def make_cmaes(start: Any, seed: int) -> _Cmaes:
    """CMA-ES of package cmaes, with its own population, 4 + 3 ln d."""
    return _Cmaes(start, seed, INITIAL_STD)


def make_narrow_cmaes(start: Any, seed: int) -> _Cmaes:
    """The same, as it begins for networks."""
    return _Cmaes(start, seed, NARROW)


@dataclass(frozen=True)
class EvoTorchPGPE:
    """PGPE with ClipUp of package evotorch, and the policy it searches.

    The rest follows as in its examples: a learning rate of 0.75 and an initial radius of 15 of
    the greatest speed, 0.1 for the standard deviations, centred ranks, mirrored pairs.

    Attributes:
        network: as evotorch spells it.
        normalizes: observations, by running statistics.
        max_speed: of ClipUp.
        popsize: candidates of a generation; as many again until it has ``num_interactions``
            steps or ``popsize_max`` candidates, where those are given.
        num_interactions: see popsize.
        popsize_max: see popsize.
    """

    network: str
    normalizes: bool
    max_speed: float
    popsize: int
    num_interactions: int | None = None
    popsize_max: int | None = None


# evotorch 0.6.1, examples/notebooks/Functional_API/problem.ipynb, which solves CartPole-v1;
# but for the population, what examples/scripts/rl_clipup.py has where a task has no own settings.
SMALL_NETWORK = EvoTorchPGPE(
    "Linear(obs_length, 16) >> Tanh() >> Linear(16, act_length)",
    normalizes=True,
    max_speed=0.15,
    popsize=100,
)
# "lunarlander" of examples/scripts/rl_clipup.py.
LANDER = EvoTorchPGPE(
    "Linear(obs_length, act_length, False)", normalizes=False, max_speed=0.3, popsize=200
)
# "walker" of examples/scripts/rl_clipup.py. It takes 1 off each reward there, what Walker2d pays
# for staying up; here it would take off all that there is to win, or all but the penalties.
WALKER = EvoTorchPGPE(
    "Linear(obs_length, act_length)",
    normalizes=True,
    max_speed=0.015,
    popsize=100,
    num_interactions=75_000,
    popsize_max=800,
)


def measure_evotorch(
    settings: EvoTorchPGPE,
    task: str,
    seed: int,
    *,
    threshold: float,
    max_env_steps: int,
    heldout_every: int,
    out: Path,
) -> dict[str, Any]:
    """Run one seed of EvoTorch, or read what it has been from the file ``out``.

    Returns:
        steps, reached, score, seconds and curve, as of a run of ours.

    Raises:
        UsageError: the file is of other settings.
    """
    asked = {
        **asdict(settings),
        "threshold": threshold,
        "max_env_steps": max_env_steps,
        "heldout_every": heldout_every,
    }
    if out.exists():
        kept = json.loads(out.read_text())
        if kept["settings"] != asked:
            raise UsageError(f"{out} was made with {kept['settings']}, not {asked}: remove it")
        found: dict[str, Any] = kept["result"]
        return found
    result = _search(settings, task, seed, threshold, max_env_steps, heldout_every)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"settings": asked, "result": result}) + "\n")
    return result


def _search(
    settings: EvoTorchPGPE,
    task: str,
    seed: int,
    threshold: float,
    max_env_steps: int,
    heldout_every: int,
) -> dict[str, Any]:
    import torch
    from evotorch.algorithms import PGPE
    from evotorch.neuroevolution import GymNE

    torch.set_num_threads(1)
    logging.getLogger("evotorch").setLevel(logging.WARNING)
    began = time.perf_counter()
    problem = GymNE(
        _seeded(task, seed),
        settings.network,
        observation_normalization=settings.normalizes,
    )
    problem.manual_seed(seed)
    searcher = PGPE(
        problem,
        popsize=settings.popsize,
        num_interactions=settings.num_interactions,
        popsize_max=settings.popsize_max,
        radius_init=15 * settings.max_speed,
        center_learning_rate=0.75 * settings.max_speed,
        stdev_learning_rate=0.1,
        optimizer="clipup",
        optimizer_config={"max_speed": settings.max_speed},
    )

    def score(episodes: int) -> float:
        """Mean return of the centre; neither its steps nor its observations count."""
        centre = searcher.status["center"]
        return float(problem.run(centre, num_episodes=episodes)["cumulative_reward"])

    curve: list[tuple[int, float]] = []
    generation, steps, elite, reached = 0, 0, -np.inf, False
    while True:
        # Moves the centre by the last population, and only then runs the next one: to the steps
        # of this call the centre owes nothing but observation statistics.
        searcher.step()
        if steps >= max_env_steps:
            break
        if generation and (elite >= threshold or generation % heldout_every == 0):
            curve.append((steps, score(20)))
            if curve[-1][1] >= threshold and score(100) >= threshold:
                reached = True
                break
        returns = np.sort(searcher.population.evals[:, 0].numpy())
        elite = returns[len(returns) // 2 :].mean()
        steps = problem.status["total_interaction_count"]
        generation += 1
    return {
        "steps": steps,
        "reached": reached,
        "score": score(100),
        "seconds": time.perf_counter() - began,
        "curve": curve,
    }


def _seeded(task: str, seed: int) -> Callable[..., gym.Env[Any, Any]]:
    """Make an environment's maker; EvoTorch resets it without a seed ever after."""

    def make(**settings: Any) -> gym.Env[Any, Any]:
        environment = gym.make(task, **settings)
        environment.reset(seed=seed)
        return environment

    return make
