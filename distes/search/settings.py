"""The settings of a search: its fields, and what can be told of them before it runs."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from distes.engines import choice
from distes.errors import Notice, UsageError, require_at_least
from distes.policies.base import Policy, PolicySpec
from distes.population import features
from distes.registry import (
    AUTO,
    check_fields,
    find,
    find_own,
    list_references,
    name_of,
    names,
    settings_of,
)
from distes.runs.reader import Run, load
from distes.runs.storage.location import locate
from distes.search.defaults import Spaces, choose_method, choose_policy
from distes.search.problem import SearchProblem
from distes.search.tables import build_from_table
from distes.strategies.base import Strategy
from distes.strategies.normalized import Normalized
from distes.tasks.base import AnyTask
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask
from distes.types import (
    MAX_EPISODES,
    EpisodeCount,
    FloatArray,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Share,
)

GENERATIONS = 100
"""Of a search that nothing else limits."""

CHOSEN_WITH = (
    "generation_env_steps",
    "population",
    "common_seeds",
    "normalize_observations",
    "deploy",
)
"""Settings that follow from the task with the strategy; the first before the second is set."""

OFF = "off"
"""The target of a search that has none, whatever its task says."""


@dataclass(eq=False)
class Settings:
    """What a search is asked to do, checked as far as it can be before it runs.

    Attributes:
        task: a task, a Gymnasium id, or a function that makes an environment.
        policy: a specification, or its name; None or ``auto`` follows from the task and the
            strategy (`distes.search.defaults`).
        strategy: a strategy, or its name; None or ``auto`` follows from the task, and with it
            population, common_seeds, generation_env_steps, normalize_observations and deploy
            where these are None.
        population: candidates per generation; None is the strategy's own number, or what goes
            with the strategy that follows from the task.
        episodes: per candidate.
        common_seeds: all candidates of a generation meet the same episode seeds; None, only
            where that goes with the strategy that follows from the task.
        generation_env_steps: as many candidates again, up to 16 times, until a generation has
            had so many steps; None for the population alone, or, where neither that nor the
            strategy is given, what goes with the task.
        first_episode_steps: longest search episodes at first; where most of a generation's
            reach the limit, the next one's is twice as high. None for the task's own limit.
        normalize_observations: by running statistics, frozen within a generation; None, as
            the run in ``start_from`` does, or where that goes with the strategy that follows
            from the task.
        seed: of the whole run, >= 0.
        generations: stop after so many; None for no limit; ``auto`` is 100 where nothing else
            limits the search, else None.
        max_episodes: stop after so many search episodes.
        max_env_steps: stop after so many search steps.
        max_seconds: stop after so many seconds.
        target: held-out return at which to stop, or ``off``; None is the task's own threshold.
        heldout_every: generations between held-out scores.
        heldout_episodes: of one held-out score.
        final_episodes: of the final score, and of confirming that the target is reached.
        reevaluate: top candidates tried again at the end.
        deploy: ``mean`` is the strategy's newest solution (for most the mean of its
            distribution), or a top candidate that is clearly better; ``best-heldout`` the
            solution with the greatest held-out score. One that reached the target goes first.
            None is ``mean``, or what goes with the strategy that follows from the task.
        max_failed_fraction: stop when a larger share of a generation's episodes fails.
        engine: ``auto``, or an engine's name.
        workers: a number, 0 for this process, or ``auto``: this process for small work, else
            all cores of the machine or of the cluster, following it as it grows and shrinks.
        min_workers: of ``workers``, how many to wait for before the first generation.
        cpus_per_worker: CPUs that each worker reserves; may be a fraction.
        episode_timeout_s: seconds that one episode may take before its worker is replaced;
            None for no limit.
        strict: refuse workers whose libraries or processor differ from the driver's.
        address: of a Ray cluster; None is $RAY_ADDRESS or, without it, a local Ray.
        out: run directory, a path or a URI (s3://bucket/run); None makes a new one below
            ``runs/``.
        start_from: a run, or an .npy file of parameters, whose solution to start from.
        start_from_spread: begin as widely as that run searched in the end, too.
        chosen: names of the settings above that followed from the task; it can't be given.
    """

    task: AnyTask | str | Callable[..., gym.Env[Any, Any]]
    policy: PolicySpec | str | None = None
    strategy: Strategy[Any] | str | None = None
    population: EpisodeCount | None = None
    episodes: EpisodeCount = 1
    common_seeds: bool | None = None
    generation_env_steps: PositiveInt | None = None
    first_episode_steps: PositiveInt | None = None
    normalize_observations: bool | None = None
    seed: NonNegativeInt = 0
    generations: PositiveInt | Literal["auto"] | None = "auto"
    max_episodes: PositiveInt | None = None
    max_env_steps: PositiveInt | None = None
    max_seconds: PositiveFloat | None = None
    target: float | Literal["off"] | None = None
    heldout_every: PositiveInt = 10
    heldout_episodes: EpisodeCount = 20
    final_episodes: EpisodeCount = 100
    reevaluate: NonNegativeInt = 5
    deploy: Literal["mean", "best-heldout"] | None = None
    max_failed_fraction: Share = 0.5
    engine: str = "auto"
    workers: int | Literal["auto"] = "auto"
    min_workers: PositiveInt = 1
    cpus_per_worker: PositiveFloat = 1.0
    episode_timeout_s: PositiveFloat | None = None
    strict: bool = False
    address: str | None = None
    out: str | Path | None = None
    start_from: str | Path | None = None
    start_from_spread: bool = False
    chosen: frozenset[str] = field(default=frozenset(), init=False, repr=False)
    _open: frozenset[str] = field(default=frozenset(), init=False, repr=False)
    _policy: Policy | None = field(default=None, init=False, repr=False)
    _engine: str | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Fill in what follows from the rest, and refuse what cannot be."""
        if not isinstance(self.task, AnyTask):
            self.task = Task(env=self.task)
        if isinstance(self.workers, str) and self.workers != "auto":
            raise UsageError(f"workers '{self.workers}' is not a whole number or auto")
        if not isinstance(self.workers, str):
            require_at_least("workers", self.workers, 0)
        check_fields(self)
        if isinstance(self.workers, int) and self.min_workers > max(self.workers, 1):
            raise UsageError(f"min_workers {self.min_workers} is more than workers {self.workers}")
        if (rows := (self.population or 1) * self.episodes) > MAX_EPISODES:
            raise UsageError(
                f"population {self.population:,} times episodes {self.episodes:,} are {rows:,} "
                f"episodes in a generation, more than {MAX_EPISODES:,}"
            )
        if self.generations == AUTO:
            limits = (self.max_episodes, self.max_env_steps, self.max_seconds)
            self.generations = GENERATIONS if limits == (None, None, None) else None
            self.chosen |= {"generations"}
        if self.start_from_spread and self.start_from is None:
            raise UsageError("start_from_spread needs start_from: name the run to begin from")
        if self.seed >= 2**63:
            raise UsageError(f"seed {self.seed} is not below 2**63")
        if self.first_episode_steps is not None and isinstance(self.task, FunctionTask):
            raise UsageError(
                f"first_episode_steps {self.first_episode_steps} is given, and an episode of "
                f"{self.task.name} is one call of a function"
            )
        choice.accept(self.engine, self.resolved_task)
        strategy = self._choose()
        name = name_of("strategies", type(strategy))
        name += ", which auto chose," if "strategy" in self.chosen else ""
        if self.start_from_spread and not strategy.takes_spread:
            raise UsageError(
                f"strategy {name} can't begin with another "
                f"search's spread: start_from_spread is for {_list_own('takes_spread')}"
            )
        if self.generation_env_steps is not None and not strategy.grows:
            raise UsageError(
                f"strategy {name} has as many candidates as it "
                f"asks for: generation_env_steps is for {_list_own('grows')}"
            )
        features.remember_functions(vars(strategy).values())

    def _choose(self) -> Strategy[Any]:
        """Settle strategy, policy and normalisation, as they are given or from the task."""
        named = ("strategy", "policy", *CHOSEN_WITH)
        self._open = frozenset(name for name in named if getattr(self, name) in (None, AUTO))
        strategy: Strategy[Any] | None = None
        if self.strategy not in (None, AUTO):
            strategy = _make("strategies", self.strategy, Strategy)
        self._follow_start()
        spaces: Spaces | None = None
        open_policy = self.policy in (None, AUTO)
        fits_all = strategy is None or strategy.default_policy == AUTO
        if isinstance(self.task, Task) and (strategy is None or (open_policy and fits_all)):
            spaces = self.task.read_spaces()
        if not open_policy:
            self.policy = _make("policies", self.policy, PolicySpec)
        elif not isinstance(self.task, Task):
            self.policy = None
        elif strategy is not None and not fits_all:
            self.policy = _make("policies", strategy.default_policy, PolicySpec)
        else:
            assert spaces is not None  # noqa: S101 - they were just read
            self.policy = choose_policy(self.task, spaces, may_be_table=strategy is None)
            self.chosen |= {"policy"}
        if strategy is None:
            method = choose_method(
                *(self.resolved_task, spaces, self.built_policy()),
                from_spread=self.start_from_spread,
            )
            strategy = method.strategy
            self.chosen |= {"strategy"}
            # A population that is given is what a generation has.
            sized = set() if self.population is None else {"generation_env_steps"}
            for name in CHOSEN_WITH:
                value = getattr(method, name)
                if getattr(self, name) is None and value and name not in sized:
                    setattr(self, name, value)
                    self.chosen |= {name}
        self.common_seeds = bool(self.common_seeds)
        self.deploy = self.deploy or "mean"
        self.normalize_observations = bool(self.normalize_observations)
        self.strategy = strategy
        return strategy

    def _follow_start(self) -> None:
        """Take over from the run to start from what its parameters mean something with.

        That are its policy and whether it normalises observations, where these are open. A
        file of parameters has neither, and is meant for observations as they are.
        """
        open_policy = self.policy in (None, AUTO) and isinstance(self.task, Task)
        if self.start_from is None or not (open_policy or self.normalize_observations is None):
            return
        place = locate(str(self.start_from))
        if place.name.endswith(".npy"):
            self.normalize_observations = bool(self.normalize_observations)
            return
        begun = load(place).config["search"]
        if self.normalize_observations is None:
            self.normalize_observations = bool(begun.get("normalize_observations"))
        table = begun.get("policy")
        if open_policy and table is not None and not list_references(table):
            self.policy = build_from_table("policy", table)

    @property
    def resolved_task(self) -> AnyTask:
        """The task, whichever way it was given."""
        assert isinstance(self.task, AnyTask)  # noqa: S101 - set in __post_init__
        return self.task

    @property
    def resolved_strategy(self) -> Strategy[Any]:
        """The strategy, within observation normalisation where that is asked for."""
        strategy = self.strategy
        assert isinstance(strategy, Strategy)  # noqa: S101 - set in __post_init__
        return Normalized(strategy) if self.normalize_observations else strategy

    @property
    def resolved_target(self) -> float | None:
        """The held-out return at which to stop; None where there is none."""
        if isinstance(self.target, str):
            return None
        return self.resolved_task.reward_threshold if self.target is None else self.target

    @property
    def resolved_generations(self) -> int | None:
        """After how many generations to stop; None where they are not what limits it."""
        assert not isinstance(self.generations, str)  # noqa: S101 - set in __post_init__
        return self.generations

    @property
    def name(self) -> str:
        """What a run of it is called unless told otherwise, as part of a path."""
        strategy = name_of("strategies", type(self.strategy))
        return path_name(f"{self.resolved_task.name}-{strategy}-{self.seed}")

    def built_policy(self) -> Policy:
        """Build the policy for the task's spaces (once)."""
        if self._policy is None:
            assert not isinstance(self.policy, str)  # noqa: S101 - set in __post_init__
            self._policy = self.resolved_task.build_policy(self.policy)
        return self._policy

    def make_problem(
        self,
        start: FloatArray,
        start_statistics: Mapping[str, FloatArray],
        start_spread: FloatArray | None = None,
    ) -> SearchProblem:
        """Make the problem that the strategy is to solve.

        Args:
            start: (d,) where to start.
            start_statistics: observation statistics that belong to it, or nothing.
            start_spread: how widely to search there, (d,) or (d, d), or None.
        """
        return SearchProblem(
            task=self.resolved_task,
            engine=self.resolved_engine(),
            policy=self.built_policy(),
            start=start,
            start_statistics=start_statistics,
            start_spread=start_spread,
            seed=self.seed,
            population_size=self.population,
            episodes=self.episodes,
            common_seeds=bool(self.common_seeds),
        )

    def count_candidates(self) -> int | None:
        """Count a generation's candidates: as given, or the strategy's own number.

        Returns:
            Those of the first generation; None where the strategy says it no sooner.
        """
        problem = self.make_problem(np.zeros(self.built_policy().num_parameters), {})
        return self.resolved_strategy.population_size(problem)

    def resolved_engine(self) -> str:
        """Settle which engine runs it (once): a run that goes on keeps the one it began with.

        Raises:
            UsageError: the engine cannot run this task with this policy.
        """
        if self._engine is None:
            timed = self.episode_timeout_s is not None
            task, policy = self.resolved_task, self.built_policy()
            self._engine = choice.resolve(self.engine, task, policy, timed=timed)
        return self._engine

    def keep_engine(self, run: Run) -> None:
        """Use the engine of a run; where it is not to be had here, say so and use the loop."""
        try:
            recorded = run.config.get("engine", "")
            self._engine = choice.resolve(recorded, self.resolved_task, self.built_policy())
        except UsageError as error:
            task, policy = self.resolved_task, self.built_policy()
            self._engine = choice.resolve("auto", task, policy, timed=True)
            notify(f"{error}; the {self._engine} engine runs instead, equal up to rounding")


def _make(folder: str, given: Any, base: type[Any]) -> Any:
    """Take a strategy or a policy as it is given, or make the one that is named.

    Raises:
        UsageError: there is none of that name, it needs settings, or it is something else.
    """
    if isinstance(given, base):
        return given
    cls = find(folder, given, base) if isinstance(given, str) else given
    if not (isinstance(cls, type) and issubclass(cls, base)):
        kind = "policy" if folder == "policies" else "strategy"
        raise UsageError(
            f"{kind} {repr(given).partition('(')[0]} is no {kind}: accepted are "
            f"{', '.join(names(folder, base))}, package.module:Class, or what distes.{folder} makes"
        )
    missing = [name for name, setting in settings_of(cls).items() if setting.required]
    if missing:
        name = given if isinstance(given, str) else cls.__name__
        raise UsageError(f"{name} needs {', '.join(missing)}: make it with {cls.__name__}(...)")
    return cls()


def _list_own(ability: str) -> str:
    """Name distes' own strategies that have an ability."""
    own: dict[str, type[Strategy[Any]]] = find_own("strategies", Strategy)
    return ", ".join(name for name, each in own.items() if getattr(each, ability))


def path_name(text: str) -> str:
    """Make a text part of a path, of a URI and of a job's id, of 200 characters at most."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)[-200:]


def notify(text: str) -> None:
    """Tell the user something that stops nothing."""
    warnings.warn(text, Notice, stacklevel=2)
