"""Tasks that are Gymnasium environments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
from gymnasium import wrappers
from gymnasium.envs.registration import load_env_creator
from gymnasium.spaces.utils import flatdim

from distes.errors import UsageError, unknown
from distes.policies.base import Policy, PolicySpec
from distes.registry import import_named
from distes.signals import contain_exits
from distes.tasks import envs
from distes.tasks.base import AnyTask
from distes.tasks.mujoco_warnings import hear_warnings
from distes.tasks.names import accept_names
from distes.types import FloatArray, PositiveInt

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

LARGEST = 10_000_000  # parameters of a policy that fits into what is sent with every generation


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
    max_episode_steps: PositiveInt | None = None
    log_info: tuple[str, ...] = ()
    reuse_env: bool | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown environment."""
        super().__post_init__()
        if isinstance(self.env, str):
            environment_spec(self.env)
        elif isinstance(self.env, gym.Env):
            raise UsageError(
                f"{type(self.env).__name__} is given as an environment that is made already: give "
                "an id, the class, or a function that makes one (episodes have instances of their "
                "own)"
            )
        elif not callable(self.env):
            raise UsageError(
                f"env {self.env!r} is not an id, nor a function that makes an environment"
            )
        for name in self.log_info:  # they become columns
            if not name or not name.isprintable():
                raise UsageError(f"log_info {name!r} is not a name: write printable text")

    @property
    def name(self) -> str:
        """The environment's id, or its function's name."""
        return self.env if isinstance(self.env, str) else getattr(self.env, "__name__", "env")

    @property
    def reward_threshold(self) -> float | None:
        """From the environment's registration."""
        return environment_spec(self.env).reward_threshold if isinstance(self.env, str) else None

    @contain_exits()
    def make_env(self) -> gym.Env[Any, Any]:
        """Make an instance without the wrappers that the engines replace.

        Raises:
            UsageError: the arguments do not fit, or a wrapper learns across episodes.
        """
        if not isinstance(self.env, str):
            env = self._call_env()
        else:
            self._load()
            try:
                with hear_warnings():
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
            if isinstance(layer, wrappers.NormalizeObservation | wrappers.NormalizeReward):
                raise UsageError(
                    f"{self.name} is wrapped in {type(layer).__name__}, which learns across "
                    "episodes; use normalize_observations, which is frozen within a generation"
                )
            layer = layer.env
        replaced = (wrappers.PassiveEnvChecker, wrappers.OrderEnforcing, wrappers.TimeLimit)
        while isinstance(env, replaced):
            env = env.env
        inner = _time_limit(env)
        if inner is not None and (self.max_episode_steps or 0) > inner:
            raise UsageError(
                f"max_episode_steps {self.max_episode_steps} is above the {inner} steps of "
                f"a TimeLimit inside {self.name}'s own wrappers"
            )
        return env

    def _load(self) -> None:
        """Load the environment's module, and MuJoCo if it does: its models warn when compiled."""
        entry = environment_spec(str(self.env)).entry_point
        if isinstance(entry, str):
            with suppress(Exception):  # `gym.make` says what is wrong
                load_env_creator(entry)

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
        with hear_warnings():
            env = make(**self.env_kwargs)
        if not isinstance(env, gym.Env):
            raise UsageError(f"{self.name} returned a {type(env).__name__}, not a gymnasium.Env")
        return env

    @contain_exits()
    def step_limit(self) -> int | None:
        """As asked for, else as the environment is registered or wrapped."""
        if self.max_episode_steps is not None:
            return self.max_episode_steps
        if isinstance(self.env, str):
            return environment_spec(self.env).max_episode_steps
        with closing(self._call_env()) as env:
            return _time_limit(env)

    def read_spaces(self) -> tuple[gym.Space[Any], gym.Space[Any]]:
        """Ask an instance for the spaces of its observations and of its actions."""
        with closing(self.make_env()) as env:
            return env.observation_space, env.action_space

    @property
    def reuses_env(self) -> bool:
        """Whether engines keep an instance between episodes."""
        if self.reuse_env is not None:
            return self.reuse_env
        # Verified as they are registered: other arguments are other environments.
        if not isinstance(self.env, str) or self.env not in VERIFIED_PURE or self.env_kwargs:
            return False
        entry = environment_spec(self.env).entry_point
        rooms = ("gymnasium.envs.", "distes.tasks.envs.")
        return isinstance(entry, str) and entry.startswith(rooms)

    @contain_exits()
    def _try_reset(self, asked: FloatArray | None) -> tuple[FloatArray, bool]:
        with closing(self.make_env()) as env:
            try:
                options = {} if asked is None else {"options": {"context": asked.copy()}}
                reset = env.reset(seed=0, **options)
            except Exception as error:
                if asked is None:
                    raise
                raise UsageError(  # what goes wrong with a context is the context's fault
                    f"{self.name} can't be reset with the context {asked.tolist()}: "
                    f"{type(error).__name__}: {' '.join(str(error).split())}"
                ) from error
            see = self.contexts.encoder(env.observation_space)
            context = self.contexts.settle(self.name, see, reset, asked, None)
            return context, asked is None or "context" in reset[1]

    def read_names(self) -> dict[str, list[str] | None]:
        """Read attributes of the environment: ``observation_names`` and ``context_names`` (k,).

        Observations are named as they are flattened; a context that is read from them is
        named as they are.
        """
        with closing(self.make_env()) as env:

            def read(kind: str, size: int) -> list[str] | None:
                given = env.get_wrapper_attr(kind) if env.has_wrapper_attr(kind) else None
                return accept_names(given, size, kind, self.name)

            space = env.observation_space
            size = flatdim(space) if space.is_np_flattenable else 0
            observations = read("observation_names", size)
            contexts = self.contexts.choose_names(observations)
            if contexts is None and self.context is not None:
                contexts = read("context_names", self.num_contexts)
        return {"observation_names": observations, "context_names": contexts}

    @contain_exits()
    def build_policy(self, spec: PolicySpec | None) -> Policy:
        """Build the policy for the environment's spaces."""
        if spec is None:
            raise UsageError(f"{self.name} needs a policy, for example distes.policies.Linear()")
        policy = spec.build(*self.read_spaces())
        if policy.num_parameters > LARGEST:
            raise UsageError(
                f"the policy of {self.name} would have {policy.num_parameters:,} parameters, more "
                f"than {LARGEST:,}: an observation has {policy.observation_size:,} numbers"
            )
        return policy


def environment_spec(env_id: str) -> gym.envs.registration.EnvSpec:
    """Find a registered environment, importing ``module`` of ``module:Id-v0``.

    Raises:
        UsageError: there is none of that id; the sentence names the nearest.
    """
    module, _, name = env_id.rpartition(":")
    if module:
        import_named(f"environment '{env_id}'", module)
    if name not in gym.registry:
        if name.endswith(".py"):
            stem = name.rpartition("/")[2].removesuffix(".py")
            raise UsageError(
                f"'{name}' is a file: name what it registers, {stem}:ID, or a class or function of "
                f"it that makes an environment, {stem}:NAME"
            )
        raise unknown("environment", name, list(gym.registry), at_most=6)
    return gym.spec(name)


def _time_limit(env: Any) -> int | None:
    """Steps of the outermost TimeLimit among an environment's wrappers."""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, wrappers.TimeLimit):
            return int(env._max_episode_steps)
        env = env.env
    return None
