"""The search: its settings, checked before anything starts, and how a run begins or goes on."""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from threadpoolctl import threadpool_limits

from distes.engines import choice
from distes.engines.kernels import lookup
from distes.errors import Notice, UsageError, require_at_least
from distes.evaluators.base import Evaluator
from distes.evaluators.fingerprint import fingerprint
from distes.evaluators.serial import SerialEvaluator
from distes.policies.base import Policy, PolicySpec
from distes.population import features
from distes.registry import find, name_of
from distes.runs.reader import Run, exists_run, load
from distes.runs.schema import CONFIG, PARTS
from distes.runs.snapshot import Snapshot
from distes.runs.storage.folder import open_folder
from distes.runs.storage.location import URI, Location, locate
from distes.runs.writer import RunLog, refuse_taken
from distes.search.observer import Observer
from distes.search.problem import SearchProblem
from distes.search.provenance import provenance
from distes.search.result import Reevaluation, Result, finished
from distes.search.session import Session
from distes.search.solution import evaluate, load_parameters, load_policy, solution_of
from distes.seeds import strategy_generator
from distes.signals import keyboard_interrupts
from distes.strategies.base import Strategy
from distes.strategies.cem import CEM
from distes.strategies.normalized import Normalized
from distes.tasks.base import AnyTask, FunctionTask, Task
from distes.types import FloatArray

__all__ = [
    "Observer",
    "Reevaluation",
    "Result",
    "Search",
    "evaluate",
    "load_parameters",
    "load_policy",
]

_MAY_CHANGE = {"workers", "min_workers", "cpus_per_worker", "address", "strict"} | {
    "episode_timeout_s",
    "out",
    "start_from",
}
"""Settings that a resumed run may have otherwise: they cannot change an episode's result,
except that a time limit decides whether an episode has one."""

_IN_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray for the entrypoint of a submitted job."""

_INITIAL_PARAMETERS = 1
"""Word that keys the generator of the policy's initial parameters."""


@dataclass(eq=False)
class Search:
    """A search for policy parameters: settings, checked when it runs.

    Attributes:
        task: a task, a Gymnasium id, or a function that makes an environment.
        policy: None is the strategy's own choice for an environment, mostly linear.
        strategy: None is `strategies.CEM`.
        population: candidates per generation; None is the strategy's own number.
        episodes: per candidate.
        common_seeds: all candidates of a generation meet the same episode seeds.
        normalize_observations: by running statistics, frozen within a generation.
        seed: of the whole run, >= 0.
        generations: stop after so many; None for no limit.
        max_episodes: stop after so many search episodes.
        max_env_steps: stop after so many search steps.
        max_seconds: stop after so many seconds.
        target: held-out return at which to stop; None is the task's own threshold.
        heldout_every: generations between held-out scores.
        heldout_episodes: of one held-out score.
        final_episodes: of the final score, and of confirming that the target is reached.
        reevaluate: top candidates tried again at the end.
        max_failed_fraction: stop when a larger share of a generation's episodes fails.
        engine: ``auto``, or an engine's name.
        workers: a number, 0 for this process, or ``auto`` for all cores of the machine or
            of the cluster, following it as it grows and shrinks.
        min_workers: of ``workers``, how many to wait for before the first generation.
        cpus_per_worker: CPUs that each worker reserves; may be a fraction.
        episode_timeout_s: seconds that one episode may take before its worker is replaced;
            None for no limit.
        strict: refuse workers whose libraries or processor differ from the driver's.
        address: of a Ray cluster; None is $RAY_ADDRESS or, without it, a local Ray.
        out: run directory, a path or a URI (s3://bucket/run); None makes a new one below
            ``runs/``.
        start_from: a run, or an .npy file of parameters, whose solution to start from.
        observers: told how it goes; without any, a notebook shows a live curve.
    """

    task: AnyTask | str | Callable[..., gym.Env[Any, Any]]
    policy: PolicySpec | None = None
    strategy: Strategy[Any] | None = None
    population: int | None = None
    episodes: int = 1
    common_seeds: bool = False
    normalize_observations: bool = False
    seed: int = 0
    generations: int | None = 100
    max_episodes: int | None = None
    max_env_steps: int | None = None
    max_seconds: float | None = None
    target: float | None = None
    heldout_every: int = 10
    heldout_episodes: int = 20
    final_episodes: int = 100
    reevaluate: int = 5
    max_failed_fraction: float = 0.5
    engine: str = "auto"
    workers: int | Literal["auto"] = "auto"
    min_workers: int = 1
    cpus_per_worker: float = 1.0
    episode_timeout_s: float | None = None
    strict: bool = False
    address: str | None = None
    out: str | Path | None = None
    start_from: str | Path | None = None
    observers: Sequence[Observer] = ()
    _policy: Policy | None = field(default=None, init=False, repr=False)
    _engine: str | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Fill in what follows from the rest, and refuse what cannot be."""
        if not isinstance(self.task, AnyTask):
            self.task = Task(env=self.task)
        if self.strategy is None:
            self.strategy = CEM()
        if self.policy is None and not isinstance(self.task, FunctionTask):
            chosen: Any = find("policies", self.strategy.default_policy, PolicySpec)
            self.policy = chosen()
        for name in ("population", "generations", "max_episodes", "max_env_steps"):
            require_at_least(name, getattr(self, name), 1)
        for name in ("episodes", "heldout_every", "heldout_episodes", "final_episodes"):
            require_at_least(name, getattr(self, name), 1)
        for name in ("seed", "reevaluate"):
            require_at_least(name, getattr(self, name), 0)
        if isinstance(self.workers, str) and self.workers != "auto":
            raise UsageError(f"workers '{self.workers}' is not a whole number or auto")
        if not isinstance(self.workers, str):
            require_at_least("workers", self.workers, 0)
        require_at_least("min_workers", self.min_workers, 1)
        if isinstance(self.workers, int) and self.min_workers > max(self.workers, 1):
            raise UsageError(f"min_workers {self.min_workers} is more than workers {self.workers}")
        if self.seed >= 2**63:
            raise UsageError(f"seed {self.seed} is not below 2**63")
        for name in ("max_seconds", "cpus_per_worker", "episode_timeout_s"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise UsageError(f"{name} {value} is not a positive finite number")
        if self.target is not None and not np.isfinite(self.target):
            raise UsageError(f"target {self.target} is not a finite number")
        if not 0 <= self.max_failed_fraction <= 1:
            raise UsageError(f"max_failed_fraction {self.max_failed_fraction} is not in [0, 1]")
        choice.accept(self.engine, self._task)
        features.remember(vars(self.strategy).values())

    @property
    def _task(self) -> AnyTask:
        assert isinstance(self.task, AnyTask)  # noqa: S101 - set in __post_init__
        return self.task

    @property
    def _strategy(self) -> Strategy[Any]:
        assert self.strategy is not None  # noqa: S101 - set in __post_init__
        return Normalized(self.strategy) if self.normalize_observations else self.strategy

    @property
    def name(self) -> str:
        """What a run of it is called unless told otherwise, as part of a path."""
        strategy = name_of("strategies", type(self.strategy))
        return path_name(f"{self._task.name}-{strategy}-{self.seed}")

    def built_policy(self) -> Policy:
        """Build the policy for the task's spaces (once)."""
        if self._policy is None:
            self._policy = self._task.build_policy(self.policy)
        return self._policy

    def resolved_engine(self) -> str:
        """Settle which engine runs it (once): a run that goes on keeps the one it began with.

        Raises:
            UsageError: the engine cannot run this task with this policy.
        """
        if self._engine is None:
            # A time limit is for each episode alone, which takes a kernel's advantage away.
            limited = self.engine == "auto" and self.episode_timeout_s is not None
            natural = "loop" if isinstance(self._task, Task) else "auto"
            asked = natural if limited else self.engine
            self._engine = choice.resolve(asked, self._task, self.built_policy())
        return self._engine

    def keep_engine(self, run: Run) -> None:
        """Use the engine of a run, or tell that it is not to be had here."""
        try:
            recorded = run.config["engine"]
            self._engine = choice.resolve(recorded, self._task, self.built_policy())
        except UsageError as error:
            _notice(f"{error}; the loop engine runs instead, equal up to rounding")
            self._engine = "loop"

    def check(self) -> SearchProblem:
        """Refuse, before anything starts, whatever can be seen to fail.

        Raises:
            UsageError: one sentence with what was given and what is accepted.
        """
        self._refuse_temporary_out()
        if self.out is not None:
            refuse_taken(self.out)
        self._refuse_unlimited()
        problem = self._problem()
        self._strategy.check(problem)
        if not self._task.confirms_contexts:
            _notice(
                f"{self._task.name} shows no info['context'] at its reset, so that contexts which "
                "it passes over go unnoticed: distes check tells whether it takes them up"
            )
        timed = self.episode_timeout_s is not None
        hint = choice.hint(self.engine, self._task, self.built_policy(), timed)
        if hint is not None:
            _notice(hint)
        return problem

    def _refuse_temporary_out(self) -> None:
        """Refuse to write into the copy of the project that a Ray job runs in."""
        place = locate("runs" if self.out is None else self.out)
        stays = isinstance(place, URI) or place.is_absolute()
        if _IN_RAY_JOB in os.environ and not stays:
            raise UsageError(
                f"out {self.out or 'runs/...'} is relative, and the working directory of a Ray "
                "job is a temporary copy: give an absolute path or a URI of storage that stays"
            )

    def _refuse_unlimited(self) -> None:
        if self.workers == 0 and self.episode_timeout_s is not None:
            raise UsageError(
                f"episode_timeout_s {self.episode_timeout_s:g} needs workers that can be "
                "replaced: workers is 0, which runs episodes in this process"
            )

    def _problem(self, begun: Snapshot | None = None) -> SearchProblem:
        policy = self.built_policy()
        if self.normalize_observations and isinstance(self._task, FunctionTask):
            raise UsageError(f"{self._task.name} has no observations to normalise")
        frozen: Mapping[str, FloatArray] = {}
        if begun is not None:
            start = begun.start
        elif self.start_from is not None:
            start, frozen = _start_from(locate(self.start_from), policy.num_parameters)
            if frozen and not self.normalize_observations:
                raise UsageError(
                    f"start_from {self.start_from} normalises observations: "
                    "give normalize_observations, too"
                )
        else:
            start = policy.initial(strategy_generator(self.seed, _INITIAL_PARAMETERS))
        return SearchProblem(
            task=self._task,
            engine=self.resolved_engine(),
            policy=policy,
            start=start,
            start_statistics=frozen,
            seed=self.seed,
            population_size=self.population,
            episodes=self.episodes,
            common_seeds=self.common_seeds,
        )

    def run(self, *, resume_if_exists: bool = False) -> Result:
        """Run the search from its beginning, or go on with what was begun.

        Args:
            resume_if_exists: if there is a run in ``out``, go on with it; if it is finished,
                give its result. For programs that are started again after a failure.

        Returns:
            The result, once the final evaluations are done.

        Raises:
            UsageError: the settings cannot work, or are not those of the run in ``out``;
                nothing was written.
            RunFailed: every episode of the first generation failed.
        """
        if resume_if_exists:
            if self.out is None:
                raise UsageError("resume_if_exists needs out: name the run to go on with")
            if exists_run(self.out):
                return self._finished() or self.proceed()
            open_folder(self.out).clear_unbegun(PARTS, CONFIG)
        problem = self.check()
        open_folder("runs" if self.out is None else self.out).check()
        evaluator = self._evaluator()
        try:
            log = RunLog.create(self._directory(), self._config(), info=self._info())
        except BaseException:
            evaluator.close()
            raise
        with threadpool_limits(1), keyboard_interrupts():
            return Session(self, problem, evaluator, log).go(None)

    @classmethod
    def resume(
        cls,
        path: str | Path,
        *,
        workers: int | Literal["auto"] | None = None,
        min_workers: int | None = None,
        cpus_per_worker: float | None = None,
        episode_timeout_s: float | None = None,
        address: str | None = None,
        observers: Sequence[Observer] = (),
    ) -> Result:
        """Go on with an interrupted run, exactly, on any number of workers.

        Args:
            path: run directory.
            workers: None keeps what the run was started with.
            min_workers: likewise, but no more than ``workers``.
            cpus_per_worker: likewise.
            episode_timeout_s: likewise.
            address: likewise.
            observers: told how it goes.

        Raises:
            UsageError: there is no such run, it is finished, or it can't be rebuilt.
        """
        from distes.search.config_file import from_config

        begun = from_config(load(path).config["search"])
        if min_workers is None and isinstance(workers, int):
            min_workers = min(begun.min_workers, max(workers, 1))
        given: dict[str, Any] = {
            "workers": workers,
            "min_workers": min_workers,
            "cpus_per_worker": cpus_per_worker,
            "episode_timeout_s": episode_timeout_s,
            "address": address,
        }
        changed = {name: value for name, value in given.items() if value is not None}
        search = replace(begun, out=path, observers=observers, **changed)
        return search.proceed()

    def proceed(self) -> Result:
        """Go on with the run in ``out``, which these settings started.

        Raises:
            UsageError: ``out`` is not an unfinished run.
        """
        if self.out is None:
            raise UsageError("out is not given: name the run to go on with")
        self._refuse_temporary_out()
        run = load(self.out)
        self._refuse_other_settings(run)
        snapshot = run.snapshot()
        if snapshot is not None and snapshot.finished:
            raise UsageError(f"{self.out} is finished ({snapshot.stopped}): nothing to resume")
        self._refuse_unlimited()
        self._engine = choice.resolve(run.config["engine"], self._task, self.built_policy())
        problem = self._problem(snapshot)
        # First, as it may have to wait until a killed search's lease is over.
        log, snapshot = RunLog.resume(self.out, info=self._info(), say=_notice)
        try:
            evaluator = self._evaluator()
        except BaseException:
            log.close()
            raise
        with threadpool_limits(1), keyboard_interrupts():
            return Session(self, problem, evaluator, log).go(snapshot)

    def _finished(self) -> Result | None:
        """Give the result of the run in ``out``, if it is finished."""
        assert self.out is not None  # noqa: S101 - its caller has looked
        self._refuse_temporary_out()
        run = load(self.out)
        self._refuse_other_settings(run)
        result = finished(self, run)
        if result is not None:
            for observer in self.observers:
                observer.finished(result)
        return result

    def _evaluator(self) -> Evaluator:
        for observer in self.observers:
            observer.starting(self)
        compile_ahead(self)
        return make_evaluator(self, self.workers)

    def _refuse_other_settings(self, run: Run) -> None:
        from distes.search.config_file import to_config

        begun, now = run.config["search"], to_config(self)
        for name in sorted({*begun, *now} - _MAY_CHANGE):
            if begun.get(name) != now.get(name):
                raise UsageError(
                    f"{run.path} was started with {name} {begun.get(name)!r}, not "
                    f"{now.get(name)!r}: a run goes on with the settings it has"
                )

    def _info(self) -> tuple[str, ...]:
        """Names of the episodes' info to log."""
        return self._task.log_info if isinstance(self._task, Task) else ()

    def _directory(self) -> Location:
        """Take the run's directory; it is there and empty afterwards."""
        if self.out is not None:
            return locate(self.out)
        base = Path("runs") / self.name
        base.parent.mkdir(exist_ok=True)
        for number in count(1):
            path = base if number == 1 else base.with_name(f"{base.name}-{number}")
            try:
                path.mkdir()
            except FileExistsError:  # another run's, perhaps started this very moment
                continue
            break
        return path

    def _config(self) -> dict[str, Any]:
        from distes.search.config_file import to_config

        return {
            "search": to_config(self),
            "engine": self.resolved_engine(),
            "num_parameters": self.built_policy().num_parameters,
            "num_contexts": self._task.num_contexts,
            "fingerprint": fingerprint(),
            **provenance(),
        }


def path_name(text: str) -> str:
    """Make a text part of a path, of a URI and of a job's id."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)


def compile_ahead(search: Search) -> float | None:
    """Compile what a search's engine needs here, unless this machine has it already.

    Workers on this machine then load it; those elsewhere compile once on each of theirs.

    Returns:
        Seconds that it took; None where there was nothing to do.
    """
    task, policy = search._task, search.built_policy()
    if search.resolved_engine() != "compiled":
        return None
    assert isinstance(task, Task)  # noqa: S101 - no other has a kernel
    if lookup.ready(task, policy):
        return None
    kept = "is kept" if lookup.keeps(task, policy) else "can't be kept here: each process does it"
    _notice(f"compiling {task.name} with its policy: it takes a few seconds, and {kept}")
    began = time.perf_counter()
    choice.make("compiled", task, policy).prepare()
    return time.perf_counter() - began


def make_evaluator(search: Search, workers: int | Literal["auto"]) -> Evaluator:
    """Make the evaluator that a search's settings ask for.

    Raises:
        UsageError: there is no room for a worker.
    """
    task = search._task
    engine = search.resolved_engine()
    policy = search.built_policy()
    if workers == 0:
        return SerialEvaluator(task, policy, engine)
    from distes.evaluators.ray import RayEvaluator

    return RayEvaluator(
        task,
        policy,
        engine,
        workers=workers,
        min_workers=search.min_workers,
        cpus_per_worker=search.cpus_per_worker,
        episode_timeout_s=search.episode_timeout_s,
        address=search.address,
        strict=search.strict,
    )


def _notice(text: str) -> None:
    warnings.warn(text, Notice, stacklevel=2)


def _start_from(path: Location, num_parameters: int) -> tuple[FloatArray, Mapping[str, FloatArray]]:
    """Read parameters, and the observation statistics of a run that has them."""
    frozen: Mapping[str, FloatArray] = {}
    if path.name.endswith(".npy"):
        try:
            data = open_folder(path.parent).read(path.name)
        except (FileNotFoundError, IsADirectoryError):
            raise UsageError(f"start_from {path} does not exist") from None
        try:
            loaded = np.load(BytesIO(data), allow_pickle=False)
            parameters = np.asarray(loaded, dtype=np.float64).ravel()
        except ValueError:
            raise UsageError(f"start_from {path} is not an array of numbers") from None
    else:
        solution = solution_of(load(path))
        if solution.distribution.uses_context:
            raise UsageError(
                f"start_from {path} is a contextual run, and a search starts at one vector of "
                "parameters: save those for a context, numpy.save('start.npy', "
                f"distes.load_parameters({str(path)!r}, context=...)), and start from that file"
            )
        parameters = solution.distribution.draw(np.zeros(1, dtype=np.int64))[0]
        frozen = solution.frozen
    if len(parameters) != num_parameters:
        raise UsageError(
            f"start_from {path} has {len(parameters)} parameters, the policy {num_parameters}"
        )
    if not np.isfinite(parameters).all():
        raise UsageError(f"start_from {path} holds numbers that are not finite")
    return parameters, frozen
