"""The engine for any Gymnasium environment: one Python loop, one episode at a time."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.random import Generator

from distes.engines.base import (
    Engine,
    abridge,
    draw_contexts,
    empty_trajectory,
    not_finite,
    read_number,
    write_fault,
)
from distes.engines.wire import MAX_FAULTS, ROW, Chunk, PackedTrajectories
from distes.errors import EpisodeError, UsageError
from distes.policies import products
from distes.policies.base import Policy, Sampler
from distes.population.folding import Folding
from distes.population.probes import report
from distes.population.records import (
    Contextual,
    Distribution,
    Population,
    RunKey,
    Status,
    Trajectory,
)
from distes.seeds import policy_generator
from distes.signals import contain_exits, is_request_to_stop
from distes.tasks.environment import Task
from distes.tasks.mujoco_warnings import hear_warnings, take_warnings
from distes.types import FloatArray, IntArray

See = Callable[[Any], FloatArray]

UNLIMITED = 2**62
"""Steps that no episode takes."""

_EVERYTHING = frozenset({"observations", "actions", "rewards"})


FEW = 16
"""Components of an observation up to which Python adds them faster than numpy."""


class LoopEngine(Engine):
    """Runs a policy in a Gymnasium environment.

    The checks and limits that ``gym.make`` wraps around an environment are not in the
    loop: the step limit is kept here. An instance is reused only as the task allows.
    """

    preference = 0

    def __init__(self, task: Task, policy: Policy) -> None:
        super().__init__(task, policy)
        self._limit = task.step_limit()
        self._env: gym.Env[Any, Any] | None = None
        self._encode: See | None = None

    def close(self) -> None:
        """Close the environment."""
        self._discard()

    def prepare(self) -> None:
        """Make the environment, unless there is one; a fault is the next episode's."""
        if self._env is None:
            with contextlib.suppress(Exception):
                self._env = self._task.make_env()

    def run(self, population: Population, key: RunKey, start: int, stop: int) -> Chunk:
        """Run the flat episodes ``start .. stop``."""
        # Probes multiply whole episodes: with one thread a product's bits are its own.
        one_thread = products.one_blas_thread if population.probes else contextlib.nullcontext
        with one_thread(), hear_warnings():
            return self._run(population, key, start, stop)

    def _run(self, population: Population, key: RunKey, start: int, stop: int) -> Chunk:
        size = stop - start
        candidate, _ = population.locate(start, stop)
        first = int(candidate[0])
        parameters = (
            None
            if population.distribution.uses_context
            else population.distribution.draw(np.arange(first, int(candidate[-1]) + 1))
        )
        seeds = population.seeds(key, start, stop)
        starts = population.start_seeds(key, start, stop)
        given, lost = draw_contexts(population, self._task, candidate, starts)
        contexts = given
        if given is None and self._task.num_contexts:
            contexts = np.full((size, self._task.num_contexts), np.nan)
        draw = _make_drawer(population.distribution, candidate, contexts)
        info = {name: np.full(size, np.nan) for name in self._task.log_info}
        faults: list[tuple[int, str]] = []
        records = frozenset[str]().union(*(probe.records for probe in population.probes))
        if population.records:
            records = _EVERYTHING
        trajectories: list[Trajectory] = []
        folding = Folding(start)
        nothing = empty_trajectory(self._policy)
        unreported = report(population.probes, nothing, self._policy, population.frozen)
        episode = _Episode(self._policy, population, self._limit, records)
        reuses = self._task.reuses_env
        # Tuples of plain numbers, made an array once: writing fields one by one is slow.
        lines: list[tuple[Any, ...]] = []
        for i, (number, seed) in enumerate(zip(candidate.tolist(), seeds.tolist(), strict=True)):
            started_at = time.time()
            began = time.perf_counter()
            try:
                if i in lost:
                    raise lost[i]
                if self._env is None:
                    self._env = self._task.make_env()
                asked = None if given is None else given[i]
                options = None if asked is None else {"context": asked.copy()}
                observation, shown = _reset(self._env, int(starts[i]), options)
                if contexts is not None:
                    contexts[i] = self._task.contexts.settle(
                        self._task.name, self._see, (observation, shown), asked, contexts.shape[1]
                    )
                theta = draw(i) if parameters is None else parameters[number - first]
                last = episode.run(self._env, theta, seed, observation, shown)
                for name, column in info.items():
                    column[i] = _to_number(name, last.get(name, np.nan))
                outcome: tuple[Any, ...] = episode.outcome
                trajectory = episode.trajectory(theta) if records else nothing
            except BaseException as error:
                mistaken = isinstance(error, UsageError) and not isinstance(error, EpisodeError)
                if mistaken or is_request_to_stop(error):
                    raise
                outcome = (np.nan, 0, False, False, Status.ERROR)
                if len(faults) < MAX_FAULTS:
                    faults.append((start + i, write_fault(error)))
                self._discard()
            else:
                if not reuses:
                    self._discard()
            whole = outcome[-1] is Status.OK
            if population.probes:
                # What goes wrong in here is no fault of the environment, and ends the run.
                folding.add(
                    report(population.probes, trajectory, self._policy, population.frozen)
                    if whole
                    else unreported
                )
            lines.append((*outcome, started_at, time.perf_counter() - began))
            if population.records:
                trajectories.append(trajectory if whole else nothing)
        return Chunk(
            start=start,
            stop=stop,
            rows=np.array(lines, dtype=ROW),
            nodes=folding.nodes,
            contexts=contexts,
            info=info,
            faults=faults,
            trajectories=PackedTrajectories.pack(trajectories, population.records),
            warnings=take_warnings(),
        )

    def _see(self, observation: Any) -> FloatArray:
        """Make an observation flat for the context to be read from it."""
        if self._encode is None:
            assert self._env is not None  # noqa: S101 - it gave the observation
            self._encode = self._task.contexts.encoder(self._env.observation_space)
        return self._encode(observation)

    def _discard(self) -> None:
        """Drop an environment that is not used again, whatever closing it does."""
        env, self._env = self._env, None
        if env is not None:
            # Its episode is over and stands as it is.
            with contextlib.suppress(Exception), contain_exits():
                env.close()


class _Episode:
    """Runs episodes of a population, and keeps what the last one gave."""

    outcome: tuple[float, int, bool, bool, Status]

    def __init__(
        self, policy: Policy, population: Population, limit: int | None, records: frozenset[str]
    ) -> None:
        self._policy = policy
        # Asked once: whether a class fits a protocol takes longer to say than a step.
        self._sampler = policy if isinstance(policy, Sampler) else None
        limits = [n for n in (limit, population.max_steps) if n is not None]
        self._limit = min(limits, default=UNLIMITED)
        self._encode = policy.encode
        self._normalise = _make_normaliser(population)
        self._records = records
        self._observations: list[FloatArray] = []
        self._last: FloatArray | None = None
        self._actions: list[Any] = []
        self._rewards: list[float] = []

    def run(
        self,
        env: gym.Env[Any, Any],
        parameters: FloatArray,
        seed: int,
        observation: Any,
        info: dict[str, Any],
    ) -> dict[str, Any]:
        """Run one episode after its reset; returns the final info."""
        generator = policy_generator(seed) if self._policy.stochastic else None
        parameters = parameters.copy()  # a policy may write into its own
        if self._records:
            return self._run_recorded(env, parameters, generator, observation, info)
        act = self._policy.bind(parameters)
        encode, normalise, step, isfinite = self._encode, self._normalise, env.step, math.isfinite
        total = 0.0
        seen = encode(observation)
        _refuse_not_finite(seen, 0)
        few = seen.size <= FEW
        for steps in range(1, self._limit + 1):
            given = step(act(seen if normalise is None else normalise(seen), generator))
            try:
                observation, reward, terminated, truncated, info = given
            except (TypeError, ValueError):
                raise _not_a_step(given, steps) from None
            try:
                total += float(reward)  # whatever it is: sums are kept in double precision
                goes_on = not (terminated or truncated)
            except (TypeError, ValueError, OverflowError):
                break  # `_finish` says what is wrong with them
            seen = encode(observation)
            # An eighth, or a quarter, of the time that np.isfinite(seen).all() takes.
            if not isfinite(sum(seen.tolist()) if few else seen.dot(seen)):
                _refuse_not_finite(seen, steps)
            if not goes_on:
                break
        self._finish(total, steps, (reward, terminated, truncated, info))
        return info

    def _run_recorded(
        self,
        env: gym.Env[Any, Any],
        parameters: FloatArray,
        generator: Generator | None,
        observation: Any,
        info: dict[str, Any],
    ) -> dict[str, Any]:
        """Run the same loop, keeping what the probes asked for."""
        observations, actions, rewards = [], [], []
        sampler = self._sampler  # what it chooses is recorded, before that is made an action
        choose: Any = (self._policy.bind if sampler is None else sampler.choose)(parameters)
        keeps_actions = bool(self._records - {"observations"})
        normalise = self._normalise
        total = 0.0
        seen = self._encode(observation)
        _refuse_not_finite(seen, 0)
        for steps in range(1, self._limit + 1):
            observations.append(seen.copy())  # it may be the environment's own array
            choice = choose(seen if normalise is None else normalise(seen), generator)
            given = env.step(choice if sampler is None else sampler.decode(choice))
            try:
                observation, reward, terminated, truncated, info = given
            except (TypeError, ValueError):
                raise _not_a_step(given, steps) from None
            try:
                total += float(reward)
                goes_on = not (terminated or truncated)
            except (TypeError, ValueError, OverflowError):
                break
            if keeps_actions:
                actions.append(choice)
                rewards.append(float(reward))
            seen = self._encode(observation)
            _refuse_not_finite(seen, steps)
            if not goes_on:
                break
        self._observations, self._actions, self._rewards = observations, actions, rewards
        self._last = seen.copy() if keeps_actions else None
        self._finish(total, steps, (reward, terminated, truncated, info))
        return info

    def _finish(self, total: float, steps: int, last: tuple[Any, Any, Any, Any]) -> None:
        """Note how an episode went, if its last step gave what a step is to give."""
        reward, terminated, truncated, info = last
        read_number(f"the reward of step {steps}", reward)
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, bool | np.bool_):
                raise EpisodeError(
                    f"{name} of step {steps} is {abridge(flag)}, which is neither True nor False"
                )
        _refuse_info(info, f"step {steps}")
        ended = bool(terminated)
        self.outcome = (
            total,
            steps,
            ended,
            bool(truncated) or (not ended and steps == self._limit),
            Status.OK if math.isfinite(total) else Status.NAN,
        )

    def trajectory(self, parameters: FloatArray) -> Trajectory:
        """Make the trajectory of the last episode, which had these parameters."""
        return Trajectory(
            parameters,
            np.array(self._observations, dtype=np.float64),
            np.array(self._actions),
            np.array(self._rewards, dtype=np.float64),
            self._last,
        )


def _make_drawer(
    distribution: Distribution, candidate: IntArray, contexts: FloatArray | None
) -> Callable[[int], FloatArray]:
    """Draw the parameters of a chunk's i-th episode, once contexts (m, k) hold its own."""
    if contexts is None:
        return lambda i: distribution.draw(candidate[i : i + 1])[0]
    if isinstance(distribution, Contextual) and distribution.uses_context:
        given = distribution.prepare_draw(candidate)
        return lambda i: given(i, contexts[i])
    return lambda i: distribution.draw(candidate[i : i + 1], contexts[i : i + 1])[0]


def _make_normaliser(population: Population) -> See | None:
    mean = population.frozen.get("observation_mean")
    std = population.frozen.get("observation_std")
    if mean is None or std is None:
        return None
    return lambda seen: (seen - mean) / std


def _refuse_not_finite(seen: FloatArray, step: int) -> None:
    if not np.isfinite(seen).all():
        raise not_finite(seen, step)


def _reset(env: gym.Env[Any, Any], seed: int, options: Any) -> tuple[Any, dict[str, Any]]:
    given = env.reset(seed=seed, options=options)
    try:
        observation, info = given
    except (TypeError, ValueError):
        raise EpisodeError(
            f"reset gives {abridge(given)}, which is not (observation, info)"
        ) from None
    _refuse_info(info, "reset")
    return observation, info


def _not_a_step(given: Any, step: int) -> EpisodeError:
    return EpisodeError(
        f"step {step} gives {abridge(given)}, which is not (observation, reward, terminated, "
        "truncated, info)"
    )


def _refuse_info(info: Any, giver: str) -> None:
    if not isinstance(info, dict):
        raise EpisodeError(f"the info of {giver} is {abridge(info)}, which is not a dict")


def _to_number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(
            f"log_info '{name}' is {abridge(value)} in the final info, which is not a number"
        ) from None
