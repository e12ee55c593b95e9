"""What is to be solved: a Gymnasium environment, or any function of the parameters."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import (
    NormalizeObservation,
    NormalizeReward,
    OrderEnforcing,
    PassiveEnvChecker,
    TimeLimit,
)

from distes.errors import UsageError, unknown
from distes.policies.base import Policy, PolicySpec
from distes.policies.identity import DirectPolicy
from distes.registry import import_named
from distes.tasks import envs
from distes.tasks.contexts import ContextChoice, ContextSource
from distes.types import Array, FloatArray, IntArray

FitnessRule = str | Callable[[Array], Array]
"""``mean``, ``min``, ``cvar:0.25``, or a function (n, K) returns -> (n,) fitness."""

VERIFIED_PURE = frozenset(
    {"CartPole-v0", "CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0"}
    | {"MountainCarContinuous-v0", "Taxi-v4", "FrozenLake-v1", "FrozenLake8x8-v1"}
    | {"CliffWalking-v1", "CliffWalkingSlippery-v1", "Blackjack-v1"}
    | {"LunarLander-v3", "LunarLanderContinuous-v3", "CarRacing-v3"}
    | {"Ant-v5", "HalfCheetah-v5", "Hopper-v5", "Humanoid-v5", "HumanoidStandup-v5"}
    | {"InvertedDoublePendulum-v5", "InvertedPendulum-v5", "Pusher-v5", "Reacher-v5"}
    | {"Swimmer-v5", "Walker2d-v5"}
    | envs.ENVIRONMENTS.keys()
)
"""Environments of Gymnasium and of distes whose instances carry nothing from one episode to
the next, bit for bit; the tests verify each. Others are built anew for every episode."""

LARGEST = 10_000_000
"""Parameters of a policy that fits into what is sent with every generation."""


@dataclass(frozen=True)
class AnyTask(ABC):
    """What tasks have in common: fitness from a candidate's episodes, and contexts.

    Attributes:
        fitness: rule over a candidate's episode returns.
        reward_shift: subtracted from every step's reward in fitness (an alive bonus,
            say); logged returns stay as the environment gives them.
        context: what upper-level policies see of an episode. ``observation`` is the first
            one, ``observation:4,5`` components of it; ``info`` is ``info["context"]`` of
            reset; ``uniform`` is drawn between context_low and context_high; a function
            (generator) -> context draws it. Drawn contexts are passed to the environment
            as ``reset(options={"context": ...})``.
        context_low: least contexts, one number for each component.
        context_high: greatest contexts.
    """

    fitness: FitnessRule = field(default="mean", kw_only=True)
    reward_shift: float = field(default=0.0, kw_only=True)
    context: ContextChoice | None = field(default=None, kw_only=True)
    context_low: tuple[float, ...] | None = field(default=None, kw_only=True)
    context_high: tuple[float, ...] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Refuse a fitness rule or a context that is none."""
        _fitness_function(self.fitness)
        _ = self.contexts
        if not math.isfinite(self.reward_shift):
            raise UsageError(f"reward_shift {self.reward_shift} is not a finite number")

    @property
    @abstractmethod
    def name(self) -> str:
        """A name for people."""

    @cached_property
    def contexts(self) -> ContextSource:
        """Where contexts come from."""
        return ContextSource(self.context, self.context_low, self.context_high)

    @cached_property
    def num_contexts(self) -> int:
        """Length k of a context; 0 without contexts.

        Raises:
            UsageError: the task does not give the contexts it promises.
        """
        if self.context is None:
            return 0
        size = len(self._tried[0])
        bound = None if self.context_low is None else len(self.context_low)
        if bound not in (None, size):
            raise UsageError(
                f"context_low has {bound} number{'s' if bound != 1 else ''}, and a context of "
                f"{self.name} {size}"
            )
        return size

    @property
    def confirms_contexts(self) -> bool:
        """Whether nothing is asked for that the task may pass over without a word.

        Raises:
            UsageError: the task does not give the contexts it promises.
        """
        return not self.contexts.sampled or self._tried[1]

    @cached_property
    def _tried(self) -> tuple[FloatArray, bool]:
        """The context of one reset, and whether the reset itself showed it."""
        return self._shown_context(self.contexts.example() if self.contexts.sampled else None)

    @abstractmethod
    def _shown_context(self, asked: FloatArray | None) -> tuple[FloatArray, bool]:
        """Try one reset, and give its context, and whether the reset itself showed it.

        Args:
            asked: a context to ask for, if contexts are sampled.

        Raises:
            UsageError: there is none, or it is not the one that was asked for.
        """

    @property
    def reward_threshold(self) -> float | None:
        """The return at which the task counts as solved, where it says so."""
        return None

    @abstractmethod
    def build_policy(self, spec: PolicySpec | None) -> Policy:
        """Build the policy for this task's spaces.

        Raises:
            UsageError: the spaces or the specification do not fit.
        """

    def score(self, returns: FloatArray, lengths: IntArray, counts: IntArray) -> FloatArray:
        """Score candidates from their episodes.

        Args:
            returns: (m,) sorted by candidate; NaN = failed.
            lengths: (m,) steps.
            counts: (n,) episodes of each candidate.

        Returns:
            (n,) fitness; NaN for a candidate with a failed episode or none at all.
        """
        rule = _fitness_function(self.fitness)
        values = returns - self.reward_shift * lengths if self.reward_shift else returns
        starts = np.cumsum(counts) - counts
        fitness = np.full(len(counts), np.nan)
        for count in np.unique(counts[counts > 0]):
            rows = np.flatnonzero(counts == count)
            table = values[starts[rows, None] + np.arange(count)]
            valid = ~np.isnan(table).any(axis=1)
            if not valid.any():
                continue
            scored = np.asarray(rule(table[valid]))
            if scored.shape != (valid.sum(),):
                raise UsageError(
                    f"the fitness function returned shape {scored.shape} for returns of shape "
                    f"{table[valid].shape}: it must give one number per row, shape ({valid.sum()},)"
                )
            fitness[rows[valid]] = scored
        return np.where(np.isfinite(fitness), fitness, np.nan)


@dataclass(frozen=True)
class Task(AnyTask):
    """A Gymnasium environment.

    Attributes:
        env: an id (also ``module:Id-v0``) or a function that makes the environment.
        env_kwargs: passed to the environment.
        max_episode_steps: step limit; None keeps the environment's own.
        log_info: keys of the final info to log.
        reuse_env: keep an instance between episodes; None does so where that is
            verified not to change results (see `VERIFIED_PURE`).
    """

    env: str | Callable[..., gym.Env[Any, Any]]
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    max_episode_steps: int | None = None
    log_info: tuple[str, ...] = ()
    reuse_env: bool | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown environment and a step limit that is none."""
        super().__post_init__()
        if self.max_episode_steps is not None and self.max_episode_steps < 1:
            raise UsageError(f"max_episode_steps {self.max_episode_steps} is not at least 1")
        if isinstance(self.env, str):
            environment_spec(self.env)

    @property
    def name(self) -> str:
        """The environment's id, or its function's name."""
        return self.env if isinstance(self.env, str) else getattr(self.env, "__name__", "env")

    @property
    def reward_threshold(self) -> float | None:
        """From the environment's registration."""
        return environment_spec(self.env).reward_threshold if isinstance(self.env, str) else None

    def make_env(self) -> gym.Env[Any, Any]:
        """Make an instance without the wrappers that the engines replace.

        Raises:
            UsageError: the arguments do not fit, or a wrapper learns across episodes.
        """
        if not isinstance(self.env, str):
            env = self._call_env()
        else:
            try:
                env = gym.make(
                    self.env, disable_env_checker=True, max_episode_steps=-1, **self.env_kwargs
                )
            except TypeError as error:
                raise UsageError(
                    f"{self.env} does not accept env_kwargs {dict(self.env_kwargs)}: {error}"
                ) from error
            except gym.error.DependencyNotInstalled as error:
                raise UsageError(f"{self.env} needs a package: {error}") from error
        layer: Any = env
        while isinstance(layer, gym.Wrapper):
            if isinstance(layer, NormalizeObservation | NormalizeReward):
                raise UsageError(
                    f"{self.name} is wrapped in {type(layer).__name__}, which learns across "
                    "episodes; use normalize_observations, which is frozen within a generation"
                )
            layer = layer.env
        while isinstance(env, PassiveEnvChecker | OrderEnforcing | TimeLimit):
            env = env.env
        inner = _time_limit(env)
        if inner is not None and (self.max_episode_steps or 0) > inner:
            raise UsageError(
                f"max_episode_steps {self.max_episode_steps} is above the {inner} steps of "
                f"a TimeLimit inside {self.name}'s own wrappers"
            )
        return env

    def _call_env(self) -> gym.Env[Any, Any]:
        """Call the user's function, refusing arguments it has no place for."""
        make = self.env
        assert callable(make)  # noqa: S101 - the callers' other branch
        try:
            inspect.signature(make).bind(**self.env_kwargs)
        except TypeError as error:
            if not self.env_kwargs:
                raise UsageError(
                    f"{self.name} makes no environment without arguments ({error}): give "
                    "env_kwargs; a function of the parameters is searched from Python, as a "
                    "distes.FunctionTask"
                ) from None
            raise UsageError(
                f"{self.name} does not accept env_kwargs {dict(self.env_kwargs)}: {error}"
            ) from None
        except ValueError:  # it does not say what it accepts
            pass
        env = make(**self.env_kwargs)
        if not isinstance(env, gym.Env):
            raise UsageError(f"{self.name} returned a {type(env).__name__}, not a gymnasium.Env")
        return env

    def step_limit(self) -> int | None:
        """Steps after which an episode is truncated, where there is a limit."""
        if self.max_episode_steps is not None:
            return self.max_episode_steps
        if isinstance(self.env, str):
            return environment_spec(self.env).max_episode_steps
        env = self._call_env()
        try:
            return _time_limit(env)
        finally:
            env.close()

    @property
    def reuses_env(self) -> bool:
        """Whether engines keep an instance between episodes."""
        if self.reuse_env is not None:
            return self.reuse_env
        # Verified as they are registered: other arguments are other environments.
        if not isinstance(self.env, str) or self.env not in VERIFIED_PURE or self.env_kwargs:
            return False
        entry = environment_spec(self.env).entry_point
        return isinstance(entry, str) and entry.startswith(
            ("gymnasium.envs.", "distes.tasks.envs.")
        )

    def _shown_context(self, asked: FloatArray | None) -> tuple[FloatArray, bool]:
        env = self.make_env()
        try:
            reset = env.reset(seed=0) if asked is None else self._asked(env, asked)
            see = self.contexts.encoder(env.observation_space)
            context = self.contexts.settle(self.name, see, reset, asked, None)
            return context, asked is None or "context" in reset[1]
        finally:
            env.close()

    def _asked(self, env: gym.Env[Any, Any], context: FloatArray) -> tuple[Any, dict[str, Any]]:
        """Reset with a context; what goes wrong then is the context's fault."""
        try:
            return env.reset(seed=0, options={"context": context.copy()})
        except Exception as error:
            raise UsageError(
                f"{self.name} can't be reset with the context {context.tolist()}: "
                f"{type(error).__name__}: {' '.join(str(error).split())}"
            ) from error

    def build_policy(self, spec: PolicySpec | None) -> Policy:
        """Build the policy for the environment's spaces."""
        if spec is None:
            raise UsageError(f"{self.name} needs a policy, for example distes.policies.Linear()")
        env = self.make_env()
        try:
            policy = spec.build(env.observation_space, env.action_space)
        finally:
            env.close()
        if policy.num_parameters > LARGEST:
            raise UsageError(
                f"the policy of {self.name} would have {policy.num_parameters:,} parameters, more "
                f"than {LARGEST:,}: an observation has {policy.observation_size:,} numbers"
            )
        return policy


@dataclass(frozen=True)
class FunctionTask(AnyTask):
    """Any function of the parameters; its value is the return.

    Attributes:
        function: f(parameters (d,)) -> float. With ``context``, f(parameters, context);
            with ``noisy``, f(parameters, seed); with both, f(parameters, context, seed).
            With ``vectorised``, parameters are (m, d), contexts (m, k), seeds (m,), the
            value (m,); each row must then depend on its own arguments alone.
        num_parameters: d.
        start: (d,) where to start; zeros if not given.
        noisy: the function takes a seed.
        vectorised: the function takes many parameter vectors at once.
        threshold: the value at which the task counts as solved.
    """

    function: Callable[..., Any]
    num_parameters: int
    start: tuple[float, ...] | None = None
    noisy: bool = False
    vectorised: bool = False
    threshold: float | None = None

    def __post_init__(self) -> None:
        """Refuse a start of another length."""
        super().__post_init__()
        if self.num_parameters < 1:
            raise UsageError(f"num_parameters {self.num_parameters} is not at least 1")
        if self.start is not None and len(self.start) != self.num_parameters:
            raise UsageError(
                f"start has {len(self.start)} numbers, num_parameters is {self.num_parameters}"
            )
        if self.context is not None and not self.contexts.sampled:
            raise UsageError(
                f"context '{self.context}' of a function: it has no reset to read it from; give "
                "uniform with context_low and context_high, or a function that draws it"
            )

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", "function")

    @property
    def reward_threshold(self) -> float | None:
        """As given."""
        return self.threshold

    def _shown_context(self, asked: FloatArray | None) -> tuple[FloatArray, bool]:
        assert asked is not None  # noqa: S101 - others are refused when made
        return asked, True  # as an argument

    def build_policy(self, spec: PolicySpec | None) -> Policy:
        """Use the parameters themselves."""
        if spec is not None:
            raise UsageError(f"{self.name} is a function of the parameters: it takes no policy")
        start = np.zeros(self.num_parameters) if self.start is None else np.array(self.start)
        return DirectPolicy(start.astype(np.float64))


def _time_limit(env: Any) -> int | None:
    """Steps of the outermost TimeLimit among an environment's wrappers."""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, TimeLimit):
            return int(env._max_episode_steps)
        env = env.env
    return None


def environment_spec(env_id: str) -> gym.envs.registration.EnvSpec:
    """Find a registered environment, importing ``module`` of ``module:Id-v0``.

    Raises:
        UsageError: there is none of that id; the sentence names the nearest.
    """
    module, _, name = env_id.rpartition(":")
    if module:
        import_named(f"environment '{env_id}'", module)
    if name not in gym.registry:
        raise unknown("environment", name, list(gym.registry), at_most=6)
    return gym.spec(name)


def _fitness_function(rule: FitnessRule) -> Callable[[Array], Array]:
    if callable(rule):
        return rule
    if rule == "mean":
        return lambda table: table.mean(axis=1)
    if rule == "min":
        return lambda table: table.min(axis=1)
    kind, _, number = rule.partition(":")
    if kind == "cvar":
        try:
            share = float(number)
        except ValueError:
            share = math.nan
        if 0 < share <= 1:
            return lambda table: np.sort(table, axis=1)[
                :, : max(1, math.ceil(share * table.shape[1]))
            ].mean(axis=1)
    raise UsageError(
        f"fitness '{rule}' is not one of mean, min, cvar:SHARE with 0 < SHARE <= 1 "
        "(cvar:0.25 is the mean of the worst quarter)"
    )
