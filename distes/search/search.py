"""The search: how a run begins, or goes on."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
from threadpoolctl import threadpool_limits

from distes.engines import choice
from distes.errors import StorageError, UsageError
from distes.evaluators.base import Evaluator
from distes.evaluators.fingerprint import take_fingerprint
from distes.registry import NONE, list_references
from distes.runs.reader import Run, exists_run, load
from distes.runs.snapshot import Snapshot
from distes.runs.storage.folder import open_folder
from distes.runs.storage.location import URI, Location, locate, shorten
from distes.runs.writer import RunLog, refuse_taken
from distes.search.config_file import read_settings, to_config
from distes.search.evaluator import IN_RAY_JOB, make_evaluator, refuse_crowd
from distes.search.limits import (
    BUDGETS,
    LIMITS,
    find_stop_reason,
    keep_confirmed,
    refuse_past_limits,
)
from distes.search.masking import mask_secrets
from distes.search.observer import Observer, ObserverGroup, find_observers, in_notebook
from distes.search.problem import SearchProblem
from distes.search.provenance import read_provenance
from distes.search.result import Result, read_result
from distes.search.session import Session
from distes.search.settings import CHOSEN_WITH, Settings, notify
from distes.search.solution import read_solution
from distes.search.tables import SECTIONS, build_from_table, parse_table
from distes.search.trust import list_code, rebuild_settings, sign, sign_again
from distes.seeds import strategy_generator
from distes.signals import defer_keyboard_interrupts
from distes.strategies.parts.spreads import find_spread, to_deviations
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask
from distes.tasks.names import collect_names
from distes.types import FloatArray

_MAY_CHANGE = {"workers", "min_workers", "cpus_per_worker", "address", "strict"} | {
    "episode_timeout_s",
    "out",
    "start_from",
}
"""Settings that a resumed run may have otherwise: they cannot change an episode's result,
except that a time limit decides whether an episode has one."""

_INITIAL_PARAMETERS = 1
"""Word that keys the generator of the policy's initial parameters."""


class Limits(TypedDict, total=False):
    """Limits with which a run goes on; None is what it is for a `Search`."""

    generations: int | Literal["auto"] | None
    max_episodes: int | None
    max_env_steps: int | None
    max_seconds: float | None
    target: float | Literal["off"] | None


@dataclass(eq=False)
class Search(Settings):
    """A search for policy parameters, run from its beginning or gone on with.

    Attributes:
        observers: told how it goes; names of `distes.views.observers`, or observers. With
            None a notebook shows a live curve, and a terminal what `distes run` shows; ``()``
            or ``none`` is nobody.
    """

    observers: Sequence[Observer | str] | None = None

    def __post_init__(self) -> None:
        """Refuse settings that cannot be, and find the observers that are named."""
        super().__post_init__()
        if self.observers == NONE:
            self.observers = ()
        elif self.observers is not None:
            self.observers = find_observers(self.observers)
        self._working_directory = Path.cwd()  # an environment may change it

    @property
    def _place(self) -> Location:
        """The run's directory, or, without ``out``, the one that holds it."""
        return self._locate("runs" if self.out is None else self.out)

    def _locate(self, given: str | Path) -> Location:
        place = locate(given)
        return place if isinstance(place, URI) else self._working_directory / place

    def check(self) -> SearchProblem:
        """Refuse, before anything starts, whatever can be seen to fail.

        Raises:
            UsageError: one sentence with what was given and what is accepted.
        """
        self._refuse_temporary_out()
        if self.out is not None:
            refuse_taken(self._place)
        self._refuse_workers()
        problem = self._problem()
        self.resolved_strategy.check(problem)
        if not self.resolved_task.confirms_contexts:
            notify(
                f"{self.resolved_task.name} shows no info['context'] at its reset, so that "
                "contexts which it passes over go unnoticed: distes check tells whether it takes "
                "them up"
            )
        timed = self.episode_timeout_s is not None
        hint = choice.hint(self.engine, self.resolved_task, self.built_policy(), timed)
        if hint is not None:
            notify(hint)
        return problem

    def _refuse_temporary_out(self) -> None:
        """Refuse to write into the copy of the project that a Ray job runs in."""
        place = locate("runs" if self.out is None else self.out)
        stays = isinstance(place, URI) or place.is_absolute()
        if IN_RAY_JOB in os.environ and not stays:
            raise UsageError(
                f"out {self.out or 'runs/...'} is relative, and the working directory of a Ray "
                "job is a temporary copy: give an absolute path or a URI of storage that stays"
            )

    def _refuse_workers(self) -> None:
        if self.workers == 0 and self.episode_timeout_s is not None:
            raise UsageError(
                f"episode_timeout_s {self.episode_timeout_s:g} needs workers that can be "
                "replaced: workers is 0, which runs episodes in this process"
            )
        refuse_crowd(self)

    def _problem(self, begun: Snapshot | None = None) -> SearchProblem:
        policy = self.built_policy()
        if self.normalize_observations and isinstance(self.resolved_task, FunctionTask):
            raise UsageError(f"{self.resolved_task.name} has no observations to normalise")
        frozen: Mapping[str, FloatArray] = {}
        spread: FloatArray | None = None
        if begun is not None:
            start = begun.start
        elif self.start_from is not None:
            start, frozen = _start_from(self._locate(self.start_from), policy.num_parameters)
            if frozen and not self.normalize_observations:
                raise UsageError(
                    f"start_from {self.start_from} normalises observations: "
                    "give normalize_observations, too"
                )
            if self.start_from_spread:
                spread = _read_spread(self._locate(self.start_from), policy.num_parameters)
        else:
            start = policy.initial(strategy_generator(self.seed, _INITIAL_PARAMETERS))
        return self.make_problem(start, frozen, spread)

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
            RunFailed: the first generation failed wholly, too large a share of a later one
                did, or workers cannot be had.
        """
        if resume_if_exists:
            if self.out is None:
                raise UsageError("resume_if_exists needs out: name the run to go on with")
            if exists_run(self._place):
                return self._take_up()
        try:
            session = self._begin()
        except UsageError:
            if resume_if_exists and exists_run(self._place):
                # Another process has begun it meanwhile.
                return self._take_up()
            raise
        with threadpool_limits(1), defer_keyboard_interrupts():
            return session.go(None)

    def _take_up(self) -> Result:
        """Go on with the run in ``out``, or give its result."""
        self._adopt_choices()
        return self._finished() or self._go_on(give_finished=True)

    def _adopt_choices(self) -> None:
        """Take from the run in ``out`` what ``auto`` chose for it and is open here, too.

        So a run goes on as it began, whatever a newer version would choose.
        """
        run = load(self._place)
        recorded, chosen = run.config["search"], frozenset(run.config.get("chosen", ()))
        both = chosen & self._open
        for table in both & {*SECTIONS}:
            if not list_references(recorded[table]):  # what auto chooses is never somebody's code
                setattr(self, table, build_from_table(table, recorded[table]))
                self._policy = None
        if "strategy" in both:
            open_settings = [name for name in CHOSEN_WITH if name in self._open]
            for name, value in read_settings(open_settings, recorded).items():
                setattr(self, name, value)
            self.chosen = chosen & (self._open | self.chosen)

    def _begin(self) -> Session:
        """Make what a new run needs, its directory last."""
        problem = self.check()
        open_folder(self._place).check()
        observers = self._audience()
        evaluator = self._evaluator(observers, resumes=False)
        try:
            log = RunLog.create(self._directory(), self._config(), info=self._info())
        except BaseException:
            evaluator.close()
            raise
        return Session(self, problem, evaluator, log, observers)

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
        observers: Sequence[Observer | str] | None = None,
        trust: bool = False,
        **limits: Unpack[Limits],
    ) -> Result:
        """Go on with an interrupted run, exactly, on any number of workers.

        With other limits a finished run goes on, too: as if they had been asked for at first.

        Args:
            path: run directory.
            workers: None keeps what the run was started with.
            min_workers: likewise, but no more than ``workers``.
            cpus_per_worker: likewise.
            episode_timeout_s: likewise.
            address: likewise.
            observers: told how it goes.
            trust: import and run what the run names, though it is not known to be one of
                yours (docs/security.md).
            limits: ``generations``, ``max_episodes``, ``max_env_steps``, ``max_seconds``,
                ``target``; what is not given stays.

        Raises:
            UsageError: there is no such run, it is finished, it can't be rebuilt, it names
                code that is not trusted, or with these limits it might have ended before.
        """
        begun = rebuild_settings(load(path), cls, trust=trust)
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
        if "generations" in begun.chosen and not limits.keys().isdisjoint(BUDGETS):
            limits.setdefault("generations", "auto")
        search = replace(begun, out=path, observers=observers, **changed, **limits)
        search.chosen |= begun.chosen - limits.keys()
        return search.proceed()

    def proceed(self) -> Result:
        """Go on with the run in ``out``, which these settings started.

        Its limits may be others: the run is then as if they had been asked for at first.

        Raises:
            UsageError: ``out`` is not an unfinished run.
        """
        if self.out is None:
            raise UsageError("out is not given: name the run to go on with")
        self._adopt_choices()
        run = load(self._place)
        self._refuse_other_settings(run, but=LIMITS)
        snapshot = run.snapshot()
        self._change_limits(snapshot)
        if snapshot is not None and snapshot.finished and find_stop_reason(self, snapshot):
            raise self._nothing_to_resume(snapshot)
        return self._go_on(give_finished=False)

    def _go_on(self, *, give_finished: bool) -> Result:
        """Go on with the run in ``out``; another process may finish it before its lock is had.

        Args:
            give_finished: give the result of a finished run rather than refuse it; then
                its limits must be those of the run.
        """
        self._refuse_temporary_out()
        run = load(self._place)
        self._refuse_other_settings(run, but=() if give_finished else LIMITS)
        self._refuse_workers()
        self._refuse_other_code(run)
        self._engine = choice.resolve(
            run.config.get("engine", ""), self.resolved_task, self.built_policy()
        )
        # Only what is read under the lock counts; a killed search's lease may have to run out.
        log, snapshot = RunLog.resume(self._place, info=self._info(), say=notify)
        try:
            changed = self._change_limits(snapshot)
            stopped = "" if snapshot is None else find_stop_reason(self, snapshot)
            if snapshot is not None and snapshot.finished and stopped:
                log.close()
                result = self._finished() if give_finished else None
                if result is not None:
                    return result
                raise self._nothing_to_resume(snapshot)
            problem = self._problem(snapshot)
            extends = snapshot is not None and snapshot.finished
            if snapshot is not None:
                # What was deployed at an end that is none any more was perhaps a candidate.
                solution = self.resolved_strategy.solution(problem, snapshot.strategy)
                confirmed = keep_confirmed(self, snapshot)
                now: dict[str, Any] = {
                    "solution": solution,
                    "confirmed": confirmed,
                    "stopped": stopped,
                }
                snapshot = replace(snapshot, finished=False, **now)
            observers = self._audience()
            evaluator = self._evaluator(observers, resumes=not extends)
            if changed is not None:
                log.change_config(changed)
                log.add_event("extended", **read_settings(LIMITS, changed["search"]))
        except BaseException:
            log.close()
            raise
        with threadpool_limits(1), defer_keyboard_interrupts():
            return Session(self, problem, evaluator, log, observers).go(snapshot)

    def _finished(self) -> Result | None:
        """Give the result of the run in ``out``, if it is finished."""
        self._refuse_temporary_out()
        run = load(self._place)
        self._refuse_other_settings(run)
        result = read_result(self, run)
        if result is not None:
            self._audience().tell("finished", result)
        return result

    def _audience(self) -> ObserverGroup:
        """Gather who is told: whoever the user names, and what this process is made for."""
        found = find_observers(self.observers or ())
        own = []
        if self.observers is None:
            own = ["notebook"] if in_notebook() else ["terminal"] if sys.stdout.isatty() else []
        if self.workers != 0:  # Ray exports figures; there is no exporter without it
            own.append("prometheus")
        added = [each for each in find_observers(own) if type(each) not in map(type, found)]
        return ObserverGroup([*found, *added])

    def _evaluator(self, observers: ObserverGroup, *, resumes: bool) -> Evaluator:
        observers.tell("starting", self)
        say = partial(observers.tell, "note")
        return make_evaluator(self, self.workers, say=say, resumes=resumes)

    def _nothing_to_resume(self, snapshot: Snapshot) -> UsageError:
        return UsageError(
            f"{self.out} is finished ({snapshot.stopped}): nothing to resume; later limits "
            f"(generations, target off, ...) extend it"
        )

    def _change_limits(self, snapshot: Snapshot | None) -> dict[str, Any] | None:
        """Make the configuration of a run that goes on with these limits; None if it has them.

        Raises:
            UsageError: with them it might have ended before.
        """
        config = load(self._place).config
        begun = read_settings(LIMITS, config["search"])
        if begun == {name: getattr(self, name) for name in LIMITS}:
            return None
        if snapshot is not None:
            refuse_past_limits(replace(self, **begun), self, snapshot)
        own = to_config(self)
        kept = {key: value for key, value in config["search"].items() if key not in LIMITS}
        kept |= {name: own[name] for name in LIMITS if name in own}
        changed = {**config, "search": kept, "chosen": sorted(self.chosen)}
        return sign_again(config, changed)

    def _refuse_other_settings(self, run: Run, but: Collection[str] = ()) -> None:
        begun, now = run.config["search"], to_config(self)
        for name in sorted({*begun, *now} - _MAY_CHANGE - {*but}):
            if begun.get(name) != now.get(name):
                table = name if name in SECTIONS else "strategy"
                if {name, table} <= self._open:
                    named = parse_table(begun.get(table, {})).get("name")
                    raise UsageError(
                        f"{run.path} was started with {table} {named}, and no {table} is named "
                        "now: a run goes on with the settings it has"
                    )
                had, has = map(mask_secrets, (begun.get(name), now.get(name)))
                raise UsageError(
                    f"{run.path} was started with {name} {had!r}, not {has!r}: a run goes on with "
                    "the settings it has"
                )

    def _refuse_other_code(self, run: Run) -> None:
        """Refuse what would be imported for the run and is not among these settings."""
        own = {"search": to_config(self), "engine": self.engine}
        others = set(list_code(run.config)) - set(list_code(own))
        if others:
            raise UsageError(
                f"{run.path} names {', '.join(map(repr, sorted(others)))}, which its settings do "
                "not: distes did not write that"
            )

    def _info(self) -> tuple[str, ...]:
        """Names of the episodes' info to log."""
        return self.resolved_task.log_info if isinstance(self.resolved_task, Task) else ()

    def _directory(self) -> Location:
        """Take the run's directory; it is there and empty afterwards."""
        if self.out is not None or isinstance(self._place, URI):
            return self._place
        base = self._place / self.name
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
        config = {
            "search": to_config(self),
            "engine": self.resolved_engine(),
            "num_parameters": self.built_policy().num_parameters,
            "num_contexts": self.resolved_task.num_contexts,
            **collect_names(self.resolved_task, self.built_policy()),
            "num_candidates": self.count_candidates(),
            "chosen": sorted(self.chosen),
            "fingerprint": take_fingerprint(),
            **read_provenance(),
        }
        signature = sign(config)
        return config if signature is None else {**config, "signature": signature}


def _read_spread(path: Location, num_parameters: int) -> FloatArray:
    """Read how widely a run searched in the end, (d,) or (d, d)."""
    given = f"start_from {shorten(path)}"
    if path.name.endswith(".npy"):
        raise UsageError(f"{given} is a file of parameters: start_from_spread needs a run")
    snapshot = load(path).snapshot()
    spread = None if snapshot is None else find_spread(snapshot.strategy)
    if spread is None:
        raise UsageError(f"{given} has no spread to begin with: leave start_from_spread out")
    if len(spread) != num_parameters:
        raise UsageError(f"{given} has {len(spread)} parameters, the policy {num_parameters}")
    if not (np.isfinite(spread).all() and (to_deviations(spread) > 0).all()):
        raise UsageError(f"{given} has shrunk to a point: leave start_from_spread out")
    return spread


def _start_from(path: Location, num_parameters: int) -> tuple[FloatArray, Mapping[str, FloatArray]]:
    """Read parameters, and the observation statistics of a run that has them."""
    given = f"start_from {shorten(path)}"
    frozen: Mapping[str, FloatArray] = {}
    if path.name.endswith(".npy"):
        try:
            data = open_folder(path.parent).read(path.name)
        except FileNotFoundError:
            raise UsageError(f"{given} does not exist") from None
        except StorageError as error:
            if isinstance(path, URI):
                raise
            raise UsageError(str(error)) from error
        try:
            loaded = np.load(BytesIO(data), allow_pickle=False)
            parameters = np.asarray(loaded, dtype=np.float64).ravel()
        except ValueError:
            raise UsageError(f"{given} is not an array of numbers") from None
    else:
        solution = read_solution(load(path))
        if solution.distribution.uses_context:
            raise UsageError(
                f"{given} is a contextual run, and a search starts at one vector of "
                "parameters: save those for a context, numpy.save('start.npy', "
                f"distes.load_parameters({str(path)!r}, context=...)), and start from that file"
            )
        parameters = solution.distribution.draw(np.zeros(1, dtype=np.int64))[0]
        frozen = solution.frozen
    if len(parameters) != num_parameters:
        raise UsageError(f"{given} has {len(parameters)} parameters, the policy {num_parameters}")
    if not np.isfinite(parameters).all():
        raise UsageError(f"{given} holds numbers that are not finite")
    return parameters, frozen
