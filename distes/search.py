"""The search: ask, run, tell, record, until there is a reason to stop.

One loop for every strategy. What it decides (held-out scores, stopping, what to deploy)
is read at fixed points of the loop, never "when the answer arrives", so that a run is
the same on any number of workers and after any resume.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from threadpoolctl import threadpool_limits

from distes import rollouts
from distes.distributions import Point, Table
from distes.errors import RunFailed, UsageError
from distes.evaluators.base import Evaluator
from distes.evaluators.fingerprint import fingerprint
from distes.evaluators.serial import SerialEvaluator
from distes.numerics.ranking import elites
from distes.policies.base import Policy, PolicySpec
from distes.policies.linear import Linear
from distes.population import Episodes, Evaluated, Population, Purpose, RunKey, Status
from distes.problem import SearchProblem
from distes.provenance import provenance
from distes.randomness import strategy_generator
from distes.registry import name_of
from distes.runs.reader import Run, load
from distes.runs.snapshot import Selected, Snapshot
from distes.runs.writer import RunLog, refuse_taken
from distes.shield import keyboard_interrupts
from distes.statistics import Score, score, student_quantile, summary
from distes.strategies.base import Strategy
from distes.strategies.cem import CEM
from distes.strategies.normalized import Normalized
from distes.task import AnyTask, FunctionTask, Task
from distes.types import FloatArray

_MAY_CHANGE = {"workers", "cpus_per_worker", "address", "out", "start_from", "strict"}
"""Settings that a resumed run may have otherwise: they cannot change its results."""

_IN_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray for the entrypoint of a submitted job."""

_INITIAL_PARAMETERS = 1
"""Word that keys the generator of the policy's initial parameters."""


class Observer:
    """Is told how a search goes; subclass what you need."""

    def starting(self, search: Search) -> None:
        """The settings are accepted; workers are about to start."""

    def started(self, search: Search, path: Path, resumed_at: int | None) -> None:
        """The workers are up; ``resumed_at`` is the next generation of a resumed run."""

    def generation(self, row: Mapping[str, Any]) -> None:
        """A generation is done; the row is the one in the generations log."""

    def heldout(self, generation: int, score: Score, target: float | None, confirms: bool) -> None:
        """The solution after a generation was scored on seeds that search never uses.

        ``confirms`` marks the second, fresh batch that follows a score at the target.
        """

    def finished(self, result: Result) -> None:
        """The run is complete."""


@dataclass(frozen=True, eq=False)
class Reevaluation:
    """The last generation's top candidates, tried again on fresh seeds.

    Attributes:
        search_score: mean return of the candidates when they were selected.
        fresh_score: mean return of the same candidates on fresh seeds.
        gap: the difference: what selection flattered (the winner's curse).
    """

    search_score: float
    fresh_score: float

    @property
    def gap(self) -> float:
        """Score during search less the score on fresh seeds."""
        return self.search_score - self.fresh_score


@dataclass(frozen=True, eq=False)
class Result:
    """A finished search.

    Attributes:
        solution: one candidate, statistics included.
        score: over unseen episodes.
        stopped: why the search stopped.
        path: the run directory.
        search: the settings.
        reevaluation: None where a strategy has no candidates to tell apart.
    """

    solution: Population
    score: Score
    stopped: str
    path: Path
    search: Search
    reevaluation: Reevaluation | None = None

    @property
    def parameters(self) -> FloatArray:
        """The solution's parameters, (d,)."""
        found: FloatArray = self.solution.distribution.draw(np.zeros(1, dtype=np.int64))[0]
        return found

    @property
    def run(self) -> Run:
        """The run's log as data frames."""
        return load(self.path)

    def policy(self) -> Callable[[Any], Any]:
        """Make the solution callable: environment observation -> action.

        For a stateful policy, make one per episode.
        """
        return bound_policy(self.search.built_policy(), self.solution)


@dataclass(eq=False)
class Search:
    """A search for policy parameters: settings, checked when it runs.

    Attributes:
        task: a task, a Gymnasium id, or a function that makes an environment.
        policy: None is `policies.Linear` for an environment.
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
        workers: None for all cores of the machine or cluster, 0 for this process.
        cpus_per_worker: CPUs that each worker reserves; may be a fraction.
        strict: refuse workers whose libraries or processor differ from the driver's.
        address: of a Ray cluster; None is $RAY_ADDRESS or, without it, a local Ray.
        out: run directory; None makes a new one below ``runs/``.
        start_from: a run, or an .npy file of parameters, whose solution to start from.
        observers: told how it goes.
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
    workers: int | None = None
    cpus_per_worker: float = 1.0
    strict: bool = False
    address: str | None = None
    out: str | Path | None = None
    start_from: str | Path | None = None
    observers: Sequence[Observer] = ()
    _policy: Policy | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Fill in what follows from the rest, and refuse what cannot be."""
        if not isinstance(self.task, AnyTask):
            self.task = Task(env=self.task)
        if self.policy is None and not isinstance(self.task, FunctionTask):
            self.policy = Linear()
        if self.strategy is None:
            self.strategy = CEM()
        for name in ("population", "generations", "max_episodes", "max_env_steps"):
            _at_least(name, getattr(self, name), 1)
        for name in ("episodes", "heldout_every", "heldout_episodes", "final_episodes"):
            _at_least(name, getattr(self, name), 1)
        for name in ("seed", "reevaluate", "workers"):
            _at_least(name, getattr(self, name), 0)
        if self.seed >= 2**63:
            raise UsageError(f"seed {self.seed} is not below 2**63")
        for name in ("max_seconds", "cpus_per_worker"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise UsageError(f"{name} {value} is not a positive finite number")
        if self.target is not None and not np.isfinite(self.target):
            raise UsageError(f"target {self.target} is not a finite number")
        if not 0 <= self.max_failed_fraction <= 1:
            raise UsageError(f"max_failed_fraction {self.max_failed_fraction} is not in [0, 1]")
        rollouts.resolve(self.engine, self._task)

    @property
    def _task(self) -> AnyTask:
        assert isinstance(self.task, AnyTask)  # noqa: S101 - set in __post_init__
        return self.task

    @property
    def _strategy(self) -> Strategy[Any]:
        assert self.strategy is not None  # noqa: S101 - set in __post_init__
        return Normalized(self.strategy) if self.normalize_observations else self.strategy

    def built_policy(self) -> Policy:
        """Build the policy for the task's spaces (once)."""
        if self._policy is None:
            self._policy = self._task.build_policy(self.policy)
        return self._policy

    def check(self) -> SearchProblem:
        """Refuse, before anything starts, whatever can be seen to fail.

        Raises:
            UsageError: one sentence with what was given and what is accepted.
        """
        if _IN_RAY_JOB in os.environ and not (self.out and Path(self.out).is_absolute()):
            raise UsageError(
                f"out {self.out or 'runs/...'} is relative, and the working directory of a Ray "
                "job is a temporary copy: give an absolute path on storage that stays"
            )
        if self.out is not None:
            refuse_taken(self.out)
        problem = self._problem()
        self._strategy.check(problem)
        return problem

    def _problem(self, begun: Snapshot | None = None) -> SearchProblem:
        policy = self.built_policy()
        if self.normalize_observations and isinstance(self._task, FunctionTask):
            raise UsageError(f"{self._task.name} has no observations to normalise")
        frozen: Mapping[str, FloatArray] = {}
        if begun is not None:
            start = begun.start
        elif self.start_from is not None:
            start, frozen = _start_from(Path(self.start_from), policy.num_parameters)
            if frozen and not self.normalize_observations:
                raise UsageError(
                    f"start_from {self.start_from} normalises observations: "
                    "give normalize_observations, too"
                )
        else:
            start = policy.initial(strategy_generator(self.seed, _INITIAL_PARAMETERS))
        return SearchProblem(
            policy=policy,
            start=start,
            start_statistics=frozen,
            seed=self.seed,
            population_size=self.population,
            episodes=self.episodes,
            common_seeds=self.common_seeds,
            num_contexts=self._task.num_contexts,
        )

    def run(self) -> Result:
        """Run the search from its beginning.

        Returns:
            The result, once the final evaluations are done.

        Raises:
            UsageError: the settings cannot work; nothing was written.
            RunFailed: every episode of the first generation failed.
        """
        problem = self.check()
        evaluator = self._evaluator()
        try:
            log = RunLog.create(self._directory(), self._config())
        except BaseException:
            evaluator.close()
            raise
        with threadpool_limits(1), keyboard_interrupts():
            return _Run(self, problem, evaluator, log).go(None)

    @classmethod
    def resume(
        cls,
        path: str | Path,
        *,
        workers: int | None = None,
        address: str | None = None,
        cpus_per_worker: float | None = None,
        observers: Sequence[Observer] = (),
    ) -> Result:
        """Go on with an interrupted run, exactly, on any number of workers.

        Args:
            path: run directory.
            workers: None keeps the number that the run was started with.
            address: likewise.
            cpus_per_worker: likewise.
            observers: told how it goes.

        Raises:
            UsageError: there is no such run, it is finished, or it can't be rebuilt.
        """
        from distes.configuration import from_config

        search = from_config(load(path).config["search"])
        if workers is not None:
            search.workers = workers
        if address is not None:
            search.address = address
        search.out = path
        search.observers = observers
        if cpus_per_worker is not None:
            search.cpus_per_worker = cpus_per_worker
        return search.proceed()

    def proceed(self) -> Result:
        """Go on with the run in ``out``, which these settings started.

        Raises:
            UsageError: ``out`` is not an unfinished run.
        """
        if self.out is None:
            raise UsageError("out is not given: name the run to go on with")
        run = load(self.out)
        self._refuse_other_settings(run)
        snapshot = run.snapshot()
        if snapshot is not None and snapshot.finished:
            raise UsageError(f"{self.out} is finished ({snapshot.stopped}): nothing to resume")
        problem = self._problem(snapshot)
        evaluator = self._evaluator()
        try:
            log, snapshot = RunLog.resume(self.out)
        except BaseException:
            evaluator.close()
            raise
        with threadpool_limits(1), keyboard_interrupts():
            return _Run(self, problem, evaluator, log).go(snapshot)

    def _evaluator(self) -> Evaluator:
        for observer in self.observers:
            observer.starting(self)
        return make_evaluator(self, self.workers)

    def _refuse_other_settings(self, run: Run) -> None:
        from distes.configuration import to_config

        begun, now = run.config["search"], to_config(self)
        for name in sorted({*begun, *now} - _MAY_CHANGE):
            if begun.get(name) != now.get(name):
                raise UsageError(
                    f"{run.path} was started with {name} {begun.get(name)!r}, not "
                    f"{now.get(name)!r}: a run goes on with the settings it has"
                )

    def _directory(self) -> Path:
        """Take the run's directory; it is there and empty afterwards."""
        if self.out is not None:
            return Path(self.out)
        assert self.strategy is not None  # noqa: S101 - set in __post_init__
        name = f"{self._task.name}-{name_of('strategies', type(self.strategy))}-{self.seed}"
        base = Path("runs") / re.sub(r"[^A-Za-z0-9._-]+", "_", name)
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
        from distes.configuration import to_config

        return {
            "search": to_config(self),
            "engine": rollouts.resolve(self.engine, self._task),
            "num_parameters": self.built_policy().num_parameters,
            "fingerprint": fingerprint(),
            **provenance(),
        }


class _Run:
    """One session of a run: from a snapshot, or the beginning, to the result."""

    def __init__(
        self, search: Search, problem: SearchProblem, evaluator: Evaluator, log: RunLog
    ) -> None:
        self._search = search
        self._observers = (*_metrics(search), *search.observers)
        self._strategy = search._strategy
        self._problem = problem
        self._evaluator = evaluator
        self._log = log
        target = search.target
        self._target = search._task.reward_threshold if target is None else target
        self._log_s = 0.0
        problem.on_run = log.evaluation

    def go(self, snapshot: Snapshot | None) -> Result:
        try:
            for observer in self._observers:
                observer.started(
                    self._search,
                    Path(self._log.path),
                    None if snapshot is None else snapshot.generation,
                )
            self._began = time.perf_counter() - (0.0 if snapshot is None else snapshot.elapsed_s)
            if snapshot is None:
                state = self._strategy.init(self._problem)
                solution = self._strategy.solution(self._problem, state)
                snapshot = Snapshot(0, self._problem.start, state, solution)
                self._log.commit(snapshot)
            else:
                self._log.event("resumed", generation=snapshot.generation)
            self._problem.evaluator = self._evaluator
            while not snapshot.stopped:
                snapshot = self._generation(snapshot)
            result = self._finish(snapshot)
        except BaseException:
            self._close(failed=True)
            raise
        self._close(failed=False)
        for observer in self._observers:
            observer.finished(result)
        return result

    def _close(self, *, failed: bool) -> None:
        """End log and workers; while failing, a fault in closing must not hide the cause."""
        try:
            try:
                self._log.close()
            finally:
                self._evaluator.close()
        except Exception:
            if not failed:
                raise

    def _generation(self, before: Snapshot) -> Snapshot:
        generation = before.generation
        self._problem.begin(generation)
        times = [time.perf_counter()]
        population = self._strategy.ask(self._problem, before.strategy)
        times.append(time.perf_counter())
        key = RunKey(self._problem.seed, generation)
        pending = self._evaluator.submit(population, key)
        heldout = None
        if before.due is not None:
            # Behind the search's own episodes: it fills workers that would wait.
            heldout_key = RunKey(self._problem.seed, generation - 1)
            heldout = self._evaluator.submit(before.due, heldout_key)
        evaluated = pending.result()
        times.append(time.perf_counter())
        if generation == 0:
            self._refuse_hopeless(evaluated)
        state = self._strategy.tell(self._problem, before.strategy, population, evaluated.episodes)
        times.append(time.perf_counter())
        confirmed = None
        if before.due is not None and heldout is not None:
            answer = heldout.result()
            self._log.evaluation(heldout_key, before.due, answer)
            confirmed = self._confirmed(generation - 1, before.due, answer)

        figures = summary(population, evaluated.episodes)
        metrics = {k: float(v) for k, v in self._strategy.metrics(state).items()}
        snapshot = Snapshot(
            generation=generation + 1,
            start=before.start,
            strategy=state,
            solution=self._strategy.solution(self._problem, state),
            episodes=before.episodes + population.num_episodes,
            env_steps=before.env_steps + int(evaluated.episodes.episode_length.sum()),
            elapsed_s=time.perf_counter() - self._began,
            confirmed=confirmed,
            last=self._select(population, evaluated.episodes),
        )
        snapshot = replace(snapshot, stopped=self._stop_reason(snapshot))
        elite = metrics.get("elite_return_mean", figures["fitness_max"])
        at_target = self._target is not None and elite >= self._target
        if not snapshot.stopped and (
            at_target or snapshot.generation % self._search.heldout_every == 0
        ):
            snapshot = replace(snapshot, due=self._heldout_population(snapshot.solution))

        row = {
            "generation": generation,
            **figures,
            **metrics,
            "ask_s": times[1] - times[0],
            "run_s": times[2] - times[1],
            "tell_s": times[3] - times[2],
            "log_s": self._log_s,
            "elapsed_s": snapshot.elapsed_s,
            **evaluated.telemetry.summary,
        }
        began = time.perf_counter()
        self._log.generation(row, key, population, evaluated)
        self._log.commit(snapshot)
        self._log_s = time.perf_counter() - began
        for observer in self._observers:
            observer.generation(row)
        self._refuse_meaningless(generation, evaluated)
        return snapshot

    def _refuse_hopeless(self, evaluated: Evaluated) -> None:
        status = evaluated.episodes.status
        if (status == Status.OK).any():
            return
        tracebacks = [str(e["traceback"]) for e in evaluated.events if "traceback" in e]
        self._log.event("failed", reason="every episode of the first generation failed")
        for event in evaluated.events:
            self._log.event(**event)  # type: ignore[arg-type]
        if tracebacks:
            raise RunFailed(
                f"every episode of the first generation failed; the first error was\n\n"
                f"{tracebacks[0]}"
            )
        raise RunFailed("every episode of the first generation returned NaN or infinity")

    def _refuse_meaningless(self, generation: int, evaluated: Evaluated) -> None:
        failed = float((evaluated.episodes.status != Status.OK).mean())
        allowed = self._search.max_failed_fraction
        if failed <= allowed:
            return
        reason = (
            f"{failed:.0%} of the episodes of generation {generation} failed, more than "
            f"max_failed_fraction {allowed:g} allows"
        )
        self._log.event("failed", reason=reason)
        raise RunFailed(f"{reason}; the tracebacks are in events.jsonl, the run can be resumed")

    def _heldout_population(self, solution: Population) -> Population:
        return replace(
            solution, episodes=self._search.heldout_episodes, purpose=Purpose.HELDOUT, probes=()
        )

    def _confirmed(
        self, generation: int, solution: Population, answer: Evaluated
    ) -> Population | None:
        """Read a held-out score; one at the target must hold on a fresh batch."""
        if not self._reaches(generation, answer, confirms=False):
            return None
        again = replace(solution, episodes=self._search.final_episodes)
        key = RunKey(self._problem.seed, generation, 1)
        answer = self._evaluator.submit(again, key).result()
        self._log.evaluation(key, again, answer)
        return again if self._reaches(generation, answer, confirms=True) else None

    def _reaches(self, generation: int, answer: Evaluated, *, confirms: bool) -> bool:
        found = score(answer.episodes.episode_return)
        for observer in self._observers:
            observer.heldout(generation, found, self._target, confirms)
        return self._target is not None and found.failed == 0 and found.mean >= self._target

    def _select(self, population: Population, episodes: Episodes) -> Selected | None:
        """Keep the top candidates, where candidates differ and can be redrawn."""
        distribution = population.distribution
        if isinstance(distribution, Point) or distribution.uses_context:
            return None
        top = elites(episodes.fitness, self._search.reevaluate)
        values = self._values(episodes)
        returns = np.array([values[episodes.candidate == i].mean() for i in top])
        return Selected(distribution.draw(top), returns, population.frozen)

    def _stop_reason(self, now: Snapshot) -> str:
        search = self._search
        if now.confirmed is not None:
            return f"held-out return reached the target {self._target:g}, confirmed"
        reason = self._strategy.stop(now.strategy)
        if reason:
            return reason
        limits: list[tuple[str, float, float | None]] = [
            ("generations", now.generation, search.generations),
            ("episodes", now.episodes, search.max_episodes),
            ("env steps", now.env_steps, search.max_env_steps),
            ("seconds", now.elapsed_s, search.max_seconds),
        ]
        for name, value, limit in limits:
            if limit is not None and value >= limit:
                return f"{limit:g} {name}"
        return ""

    def _finish(self, snapshot: Snapshot) -> Result:
        """Decide on fresh seeds what to deploy, and score that on fresher ones."""
        search = self._search
        generation = snapshot.generation
        key = RunKey(self._problem.seed, generation)
        solution = snapshot.confirmed or snapshot.solution
        solution = replace(solution, episodes=1, purpose=Purpose.SEARCH)
        if snapshot.confirmed is None:
            self._evaluate(key, self._heldout_population(solution))
        reevaluation = None
        if snapshot.last is not None and len(snapshot.last.returns):
            reevaluation, better = self._reevaluate(key, solution, snapshot.last)
            if better is not None and snapshot.confirmed is None:
                solution = better
        test = replace(solution, episodes=search.final_episodes, purpose=Purpose.TEST)
        final = score(self._evaluate(key, test).episode_return)
        self._log.event(
            "finished",
            reason=snapshot.stopped,
            score=vars(final),
            search_score=reevaluation and reevaluation.search_score,
            fresh_score=reevaluation and reevaluation.fresh_score,
            gap=reevaluation and reevaluation.gap,
        )
        self._log.commit(replace(snapshot, solution=solution, finished=True), now=True)
        return Result(
            solution=solution,
            score=final,
            stopped=snapshot.stopped,
            path=Path(self._log.path),
            search=search,
            reevaluation=reevaluation,
        )

    def _reevaluate(
        self, key: RunKey, solution: Population, last: Selected
    ) -> tuple[Reevaluation, Population | None]:
        """Try top candidates and the solution on the same fresh seeds."""
        count = len(last.returns)
        table = Population(
            Table(last.parameters),
            count,
            episodes=self._search.heldout_episodes,
            seed_group=count,
            frozen=last.frozen,
            purpose=Purpose.REEVALUATION,
        )
        own = replace(
            solution, episodes=self._search.heldout_episodes, purpose=Purpose.REEVALUATION
        )
        fresh = self._values(self._evaluate(key, table)).reshape(count, -1)
        best = _clearly_better(fresh, self._values(self._evaluate(key, own, logged_call=1)))
        valid = fresh[~np.isnan(fresh).any(axis=1)]
        reevaluation = Reevaluation(
            float(last.returns.mean()), float(valid.mean()) if len(valid) else math.nan
        )
        if best is None or self._search._task.fitness != "mean":
            # Other rules than the mean have no paired test: the solution stays.
            return reevaluation, None
        return reevaluation, Population(Point(last.parameters[best]), 1, frozen=last.frozen)

    def _values(self, episodes: Episodes) -> FloatArray:
        """What the task's mean rule averages."""
        shift = self._search._task.reward_shift
        return episodes.episode_return - shift * episodes.episode_length

    def _evaluate(
        self, key: RunKey, population: Population, logged_call: int | None = None
    ) -> Episodes:
        """Evaluate and log; ``logged_call`` tells apart two evaluations on the same seeds."""
        answer = self._evaluator.submit(population, key).result()
        logged = key if logged_call is None else key._replace(call=logged_call)
        self._log.evaluation(logged, population, answer)
        return answer.episodes


def _clearly_better(candidates: FloatArray, solution: FloatArray) -> int | None:
    """Name the candidate that replaces the solution: ahead beyond chance, or never failed.

    Paired t test on common seeds at 5%, two-sided, divided by the number of candidates
    (Bonferroni): the best of several noisy scores is flattered once more.

    Args:
        candidates: (n, K) values; NaN = failed.
        solution: (K,) on the same seeds.
    """
    means = candidates.mean(axis=1)
    count, episodes = candidates.shape
    if np.isnan(means).all():
        return None
    best = int(np.nanargmax(means))
    if np.isnan(solution).any():
        return best
    if episodes < 2:
        return None
    ahead = candidates[best] - solution
    error = float(ahead.std(ddof=1)) / math.sqrt(episodes)
    limit = student_quantile(1 - 0.025 / count, episodes - 1)
    return best if ahead.mean() > limit * error else None


def make_evaluator(search: Search, workers: int | None) -> Evaluator:
    """Make the evaluator that a search's settings ask for."""
    task = search._task
    engine = rollouts.resolve(search.engine, task)
    policy = search.built_policy()
    if workers == 0:
        return SerialEvaluator(task, policy, engine)
    from distes.evaluators.ray import RayEvaluator

    return RayEvaluator(
        task,
        policy,
        engine,
        workers=workers,
        cpus_per_worker=search.cpus_per_worker,
        address=search.address,
        strict=search.strict,
    )


def _metrics(search: Search) -> Sequence[Observer]:
    """Give what exports a run's figures; there is no exporter without Ray."""
    if search.workers == 0:
        return ()
    from distes.metrics import Metrics

    return (Metrics(),)


def evaluate(
    path: str | Path, *, episodes: int = 100, seed: int = 0, workers: int | None = 0
) -> Score:
    """Score a run's solution on fresh seeds; a run in progress gives its newest.

    Args:
        path: run directory.
        episodes: how many.
        seed: another seed gives other episodes; none was ever searched on.
        workers: as in `Search`.

    Raises:
        UsageError: there is no such run, or nothing to evaluate yet.
    """
    from distes.configuration import from_config

    _at_least("episodes", episodes, 1)
    _at_least("seed", seed, 0)
    run = load(path)
    search = from_config(run.config["search"])
    solution = replace(solution_of(run), episodes=episodes, purpose=Purpose.TEST)
    evaluator = make_evaluator(search, workers)
    try:
        with threadpool_limits(1):
            answer = evaluator.submit(solution, RunKey(seed, 0)).result()
    finally:
        evaluator.close()
    return score(answer.episodes.episode_return)


def load_policy(
    path: str | Path, *, generation: int | None = None, candidate: int | None = None
) -> Callable[[Any], Any]:
    """Make a run's policy callable: environment observation -> action.

    Args:
        path: run directory.
        generation: of a logged candidate; None takes the solution.
        candidate: its number within the generation.

    Raises:
        UsageError: there is no such run, generation or candidate.
    """
    from distes.configuration import from_config

    run = load(path)
    policy = from_config(run.config["search"]).built_policy()
    if generation is None and candidate is None:
        return bound_policy(policy, solution_of(run))
    if generation is None or candidate is None:
        raise UsageError("a logged candidate is named by generation and candidate, both")
    population = run.population(generation)
    if not 0 <= candidate < population.size:
        raise UsageError(
            f"candidate {candidate} is not one of the {population.size} of generation {generation}"
        )
    return bound_policy(policy, population, candidate)


def solution_of(run: Run) -> Population:
    """Read a run's solution from its newest checkpoint.

    Raises:
        UsageError: there is no checkpoint yet.
    """
    snapshot = run.snapshot()
    if snapshot is None or snapshot.generation == 0:
        raise UsageError(f"{run.path} has no generation yet: there is nothing to evaluate")
    solution: Population = replace(snapshot.solution, probes=())
    return solution


def bound_policy(policy: Policy, solution: Population, candidate: int = 0) -> Callable[[Any], Any]:
    """Bind a policy to a solution, or to a candidate: environment observation -> action."""
    act = policy.bind(solution.distribution.draw(np.array([candidate]))[0])
    mean = solution.frozen.get("observation_mean")
    std = solution.frozen.get("observation_std")

    def policy_function(observation: Any) -> Any:
        seen = policy.encode(observation)
        return act(seen if mean is None or std is None else (seen - mean) / std, None)

    return policy_function


def _at_least(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise UsageError(f"{name} {value} is not at least {least}")


def _start_from(path: Path, num_parameters: int) -> tuple[FloatArray, Mapping[str, FloatArray]]:
    """Read parameters, and the observation statistics of a run that has them."""
    frozen: Mapping[str, FloatArray] = {}
    if path.suffix == ".npy":
        if not path.is_file():
            raise UsageError(f"start_from {path} does not exist")
        try:
            loaded = np.load(path, allow_pickle=False)
            parameters = np.asarray(loaded, dtype=np.float64).ravel()
        except ValueError:
            raise UsageError(f"start_from {path} is not an array of numbers") from None
    else:
        solution = solution_of(load(path))
        parameters = solution.distribution.draw(np.zeros(1, dtype=np.int64))[0]
        frozen = solution.frozen
    if len(parameters) != num_parameters:
        raise UsageError(
            f"start_from {path} has {len(parameters)} parameters, the policy {num_parameters}"
        )
    if not np.isfinite(parameters).all():
        raise UsageError(f"start_from {path} holds numbers that are not finite")
    return parameters, frozen
