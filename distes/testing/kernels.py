"""Whether a kernel does what its environment does.

`assert_kernel_matches` runs the same episodes through the loop engine, which steps the
environment, and through the compiled engine, and compares all that was seen, done and paid.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from distes.engines.compiled import CompiledEngine
from distes.engines.kernels import lookup
from distes.engines.kernels.kernel import KERNEL_FUNCTIONS, Actor, Kernel
from distes.engines.kernels.random import ENVIRONMENT_WORDS, POLICY_WORDS, seed_environment
from distes.engines.loop import LoopEngine
from distes.engines.wire import Chunk
from distes.errors import UsageError, require_at_least
from distes.policies.base import Policy, PolicySpec
from distes.population.distributions import Table
from distes.population.records import RECORDS, Population, RunKey, Status, Trajectory
from distes.tasks.environment import Task
from distes.types import Array, FloatArray

MAX_STEPS = 1000  # where the environment has no step limit, episodes are cut here

TRIED_EPISODES, TRIED_STEPS = 20, 300  # what is run in plain Python first

BATCH = 50  # episodes that are compared before more are run
SPREADS = (0.1, 10.0)  # least and greatest deviation of candidates from initial parameters


@dataclass(frozen=True)
class KernelReport:
    """What agreed.

    Attributes:
        kernel: name of the class.
        environment: name of the environment.
        episodes: compared.
        steps: of these episodes.
        tolerance: that was allowed.
    """

    kernel: str
    environment: str
    episodes: int
    steps: int
    tolerance: float

    def __str__(self) -> str:
        """Say it in a sentence."""
        how = f"within {self.tolerance:g}" if self.tolerance else "to the last bit"
        return (
            f"{self.kernel} agrees with {self.environment} {how}: "
            f"{self.episodes:,} episodes, {self.steps:,} steps"
        )


def assert_kernel_matches(
    kernel: type[Kernel],
    env: str | Callable[..., gym.Env[Any, Any]],
    policy: PolicySpec,
    episodes: int = 1000,
    *,
    tolerance: float = 0.0,
    seed: int = 0,
    env_kwargs: Mapping[str, Any] | None = None,
) -> KernelReport:
    """Assert that a kernel's episodes are those of its environment.

    Each episode has its own seed and its own candidate, drawn around the policy's initial
    parameters, some near and some far. Observations, actions, rewards and ends of all steps
    are compared, returns, lengths, and the final info that the kernel gives. Where it has
    contexts, those of resets are compared, and every other batch of episodes imposes them.

    Args:
        kernel: the class.
        env: a Gymnasium id, or a function that makes an environment, such as its class.
        policy: that acts.
        episodes: to compare.
        tolerance: difference that is allowed, of numbers above 1 in proportion; 0 asks for
            equal bits. Lengths and ends are never allowed to differ.
        seed: of the episodes and the candidates.
        env_kwargs: arguments of the environment, and of the kernel.

    Returns:
        How much was compared.

    Raises:
        AssertionError: they differ; the message locates the first difference.
        UsageError: an argument can't be used, or the kernel does not honour ``env_kwargs``.
    """
    _refuse_arguments(kernel, policy, episodes, tolerance, seed)
    plain = Task(env, env_kwargs={} if env_kwargs is None else env_kwargs)
    instance: Kernel = lookup.make_kernel(kernel, plain)
    task = Task(
        env,
        env_kwargs=plain.env_kwargs,
        max_episode_steps=plain.step_limit() or MAX_STEPS,
        log_info=instance.info_names,
        context="info" if instance.num_contexts else None,
    )
    built = task.build_policy(policy)
    actor = lookup.actor_of(built)
    if actor is None:
        raise UsageError(
            f"policy {type(policy).__name__} has no kernel for the spaces of {task.name}"
        )
    pair = _EnginePair(instance, task, built, tolerance)
    _compare_contexts(instance, task)
    _try_in_python(instance, actor, built, task.step_limit() or MAX_STEPS)
    with closing(pair):
        steps = pair.compare(episodes, seed)
    return KernelReport(kernel.__qualname__, task.name, episodes, steps, tolerance)


def _refuse_arguments(kernel: Any, policy: Any, episodes: int, tolerance: float, seed: int) -> None:
    if not (isinstance(kernel, type) and issubclass(kernel, Kernel)):
        name = f"{Kernel.__module__}.{Kernel.__qualname__}"
        raise UsageError(f"kernel {kernel!r} is not a subclass of {name}")
    for name in KERNEL_FUNCTIONS:
        if not isinstance(inspect.getattr_static(kernel, name), staticmethod):
            raise UsageError(f"{kernel.__qualname__}.{name} is not a staticmethod")
    if inspect.isabstract(kernel):
        absent = ", ".join(sorted(kernel.__abstractmethods__))
        raise UsageError(f"{kernel.__qualname__} lacks {absent}")
    if not isinstance(policy, PolicySpec):
        raise UsageError(f"policy {policy!r} is none, for example distes.policies.Linear()")
    require_at_least("episodes", episodes, 1)
    require_at_least("seed", seed, 0)
    if not (np.isfinite(tolerance) and tolerance >= 0):
        raise UsageError(f"tolerance {tolerance} is not a finite number of at least 0")
    if not lookup.is_numba_installed():
        raise UsageError(f"numba is not installed: {lookup.INSTALL}")


def _compare_contexts(kernel: Kernel, task: Task) -> None:
    """Compare the numbers of contexts."""
    with closing(task.make_env()) as env:
        _, info = env.reset(seed=0)
    shown = np.size(info.get("context", ()))
    if shown != kernel.num_contexts:
        raise AssertionError(
            f"{type(kernel).__qualname__} has num_contexts {kernel.num_contexts}, and the "
            f"info['context'] of a reset of {task.name} has {shown} numbers."
        )


def _try_in_python(kernel: Kernel, actor: Actor, policy: Policy, limit: int) -> None:
    """Run some episodes in plain Python: machine code writes beyond an array without a word."""
    name = type(kernel).__qualname__
    constants = kernel.constants
    if not (isinstance(constants, np.ndarray) and constants.dtype == np.float64):
        raise AssertionError(f"{name}.constants is not an array of float64: {constants!r}.")
    generator = np.zeros(ENVIRONMENT_WORDS, np.uint64)
    sampling, memory = np.zeros(POLICY_WORDS, np.uint64), np.zeros(actor.num_memory)
    chance = np.random.default_rng(0)
    state, observation = np.zeros(kernel.num_states), np.zeros(policy.observation_size)
    context, none = np.zeros(kernel.num_contexts), np.zeros(0)
    choice, action = np.zeros(actor.num_choices), np.zeros(actor.num_actions)
    info = np.zeros(len(kernel.info_names))

    def call(function: str, *arguments: Array) -> Any:
        try:
            with np.errstate(all="ignore"):
                return getattr(kernel, function)(*arguments)
        except Exception as error:
            raise AssertionError(
                f"{name}.{function} raises {type(error).__name__} in plain Python: {error}."
            ) from error

    choose = actor.make_choose(actor.sizes)
    for seed in range(TRIED_EPISODES):
        seed_environment(generator, seed)
        state[:] = 0.0
        call("reset", state, generator, none, constants)
        call("show", state, constants, context)
        if len(context) and seed % 2:
            state[:] = 0.0
            call("reset", state, generator, context, constants)
        call("observe", state, constants, observation)
        given = (chance.normal(size=policy.num_parameters), observation, actor.settings)
        memory[:] = 0.0
        for _ in range(min(TRIED_STEPS, limit)):
            choose(*given, memory, sampling, choice)
            actor.decode(choice, actor.settings, action)
            taken = call("step", state, action, generator, constants)
            if not (isinstance(taken, tuple) and len(taken) == 2):
                raise AssertionError(
                    f"{name}.step returned {taken!r}, not a reward and whether it is over"
                )
            call("observe", state, constants, observation)
            if taken[1]:
                break
    call("inform", state, constants, info)


@dataclass(frozen=True)
class _Difference:
    """Where two episodes part."""

    where: str
    what: str
    ours: Any  # the kernel's
    theirs: Any  # the environment's

    def __str__(self) -> str:
        """Say it."""
        hint = ""
        if isinstance(self.ours, float) and self.ours != self.theirs:
            with np.errstate(over="ignore"):
                single = float(np.float32(self.ours)) == self.theirs
            hint = " (the kernel's rounded to float32)" if single else ""
        return (
            f"{self.where} the {self.what} is {self.ours} in the kernel and {self.theirs} in the "
            f"environment{hint}"
        )


class _EnginePair:
    """Both engines, and what counts as equal."""

    def __init__(self, kernel: Kernel, task: Task, policy: Policy, tolerance: float) -> None:
        self._kernel, self._task, self._policy = kernel, task, policy
        self._tolerance = tolerance
        self._loop = LoopEngine(task, policy)
        self._compiled = CompiledEngine(task, policy, kernel)
        self._name = type(kernel).__qualname__

    def close(self) -> None:
        """Close the environment."""
        self._loop.close()

    def compare(self, episodes: int, seed: int) -> int:
        """Compare episodes, and assert that they are equal; returns how many steps they had."""
        try:
            self._compiled.prepare()
        except Exception as error:
            said = " ".join(str(error).split())[:500]
            raise AssertionError(f"{self._name} does not compile: {said}") from error
        generator = np.random.default_rng(np.random.SeedSequence(seed))
        imposed: FloatArray | None = None
        steps = 0
        for batch, first in enumerate(range(0, episodes, BATCH)):
            size = min(BATCH, episodes - first)
            table = Table(self._candidates(generator, size))
            contexts = None if imposed is None else imposed[:size]
            population = Population(table, size, contexts=contexts, records=RECORDS)
            key = RunKey(seed, batch)
            theirs = self._loop.run(population, key, 0, size)
            try:
                ours = self._compiled.run(population, key, 0, size)
            except UsageError as error:
                raise AssertionError(
                    f"{self._name} refuses what {self._task.name} takes: {error}."
                ) from error
            seeds = population.start_seeds(key, 0, size)
            self._raise_first_difference(first, episodes, seeds.tolist(), ours, theirs)
            steps += int(theirs.rows["episode_length"].sum())
            # Contexts that the environment drew itself are such as it takes.
            drawn = theirs.contexts if batch % 2 == 0 else None
            imposed = None if drawn is None else drawn[::-1]
        return steps

    def _candidates(self, generator: np.random.Generator, size: int) -> FloatArray:
        """Draw parameters, (size, d)."""
        rows = [self._policy.initial(generator) for _ in range(size)]
        low, high = np.log(SPREADS)
        spreads = np.exp(generator.uniform(low, high, (size, 1)))
        noise = generator.standard_normal((size, self._policy.num_parameters))
        return np.array(rows) + spreads * noise

    def _raise_first_difference(
        self, first: int, episodes: int, seeds: list[int], ours: Chunk, theirs: Chunk
    ) -> None:
        """Raise an `AssertionError` that says where a batch differs, if it does."""
        for chunk, name, but in (
            (theirs, self._task.name, ""),
            (ours, self._name, f", where {self._task.name} does not"),
        ):
            if chunk.faults:
                row, fault = chunk.faults[0]
                raise AssertionError(
                    f"{name} raises in episode {first + row} (seed {seeds[row]}){but}: "
                    f"{fault.strip().splitlines()[-1]}."
                )
        assert ours.trajectories is not None and theirs.trajectories is not None  # noqa: S101, PT018 - asked for
        both = (
            each.unpack(np.zeros((len(seeds), 0)))
            for each in (ours.trajectories, theirs.trajectories)
        )
        found = [
            self._find_difference(i, ours, theirs, *trajectories)
            for i, trajectories in enumerate(zip(*both, strict=True))
        ]
        differing = [i for i, difference in enumerate(found) if difference is not None]
        if differing:
            row = differing[0]
            raise AssertionError(
                f"{self._name} differs from {self._task.name} in episode {first + row} of "
                f"{episodes} (seed {seeds[row]}, {theirs.rows['episode_length'][row]} steps): "
                f"{found[row]}. Of the {first + len(seeds)} episodes run so far {len(differing)} "
                f"differ{'s' if len(differing) == 1 else ''}."
            )

    def _find_difference(
        self, i: int, ours: Chunk, theirs: Chunk, our_path: Trajectory, their_path: Trajectory
    ) -> _Difference | None:
        """Find the first difference of an episode; None if there is none."""
        if ours.contexts is not None and theirs.contexts is not None:
            at = self._find_unequal(ours.contexts[i], theirs.contexts[i])
            if at is not None:
                shown = (float(ours.contexts[i, at]), float(theirs.contexts[i, at]))
                return _Difference("at the reset", f"context[{at}]", *shown)
        our_row, their_row = ours.rows[i], theirs.rows[i]
        if our_row["status"] == their_row["status"] == Status.OK:
            found = self._find_step_difference(our_path, their_path, our_row, their_row)
            if found is not None:
                return found
        for name in ("episode_length", "terminated", "truncated"):
            if our_row[name] != their_row[name]:
                values = our_row[name].item(), their_row[name].item()
                return _Difference("at the end", name.replace("_", " "), *values)
        returns = np.array([our_row["episode_return"]]), np.array([their_row["episode_return"]])
        if self._find_unequal(*returns, scale=float(their_row["episode_length"])) is not None:
            return _Difference("at the end", "return", float(returns[0][0]), float(returns[1][0]))
        for name in self._kernel.info_names:
            our_info, their_info = ours.info[name][i : i + 1], theirs.info[name][i : i + 1]
            if self._find_unequal(our_info, their_info) is not None:
                values = float(our_info[0]), float(their_info[0])
                return _Difference("at the end", f"info['{name}']", *values)
        return None

    def _find_step_difference(
        self, ours: Trajectory, theirs: Trajectory, our_row: Array, their_row: Array
    ) -> _Difference | None:
        """Find the first difference in what was seen, done and paid."""
        length = min(len(ours.rewards), len(theirs.rewards))
        # Sorted by step; within it what is seen goes before what is paid for it.
        found: list[tuple[int, int, _Difference]] = []
        compared = [
            ("action", _flatten(ours.actions), _flatten(theirs.actions), 1),
            ("observation", _stack_observations(ours), _stack_observations(theirs), 0),
            ("reward", _flatten(ours.rewards), _flatten(theirs.rewards), 1),
        ]
        for order, (what, left, right, late) in enumerate(compared):
            count = length + 1 - late
            at = self._find_unequal(left[:count].ravel(), right[:count].ravel())
            if at is not None:
                row, column = divmod(at, left.shape[1])
                step = row + late
                name = what if what == "reward" else f"{what}[{column}]"
                where = f"at step {step}" if step else "at the reset"
                values = float(left[row, column]), float(right[row, column])
                found.append((step, order, _Difference(where, name, *values)))
        longer = len(ours.rewards) != len(theirs.rewards)
        if longer or our_row["terminated"] != their_row["terminated"]:
            ends = [_describe_end(row, length) for row in (our_row, their_row)]
            difference = _Difference(f"at step {length}", "episode", *ends)
            found.append((length, len(compared), difference))
        return min(found, key=lambda each: each[:2])[2] if found else None

    def _find_unequal(self, ours: Array, theirs: Array, scale: float = 1.0) -> int | None:
        """Find the place of the first numbers that differ, among (m,)."""
        allowed = self._tolerance * scale
        with np.errstate(invalid="ignore"):
            near = np.abs(ours - theirs) <= allowed * np.maximum(np.abs(theirs), 1.0)
        equal = (ours == theirs) | near | (np.isnan(ours) & np.isnan(theirs))
        return None if equal.all() else int(np.argmin(equal))


def _flatten(values: Array) -> FloatArray:
    """Make what was noted of each step a row."""
    return np.asarray(values, np.float64).reshape(len(values), -1)


def _stack_observations(trajectory: Trajectory) -> FloatArray:
    """Stack the observations of the reset and of each step, (T + 1, k)."""
    assert trajectory.last_observation is not None  # noqa: S101 - of an episode that ended well
    return np.vstack([trajectory.observations, trajectory.last_observation])


def _describe_end(row: Array, step: int) -> str:
    """Say whether an episode is over after a step, and how."""
    if row["episode_length"] > step:
        return "going on"
    return "terminated" if row["terminated"] else "truncated"
