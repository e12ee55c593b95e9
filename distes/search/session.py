"""One session of a run: ask, run, tell, record, until there is a reason to stop.

What it decides (held-out scores, stopping, what to deploy) is read at fixed points of the
loop, never "when the answer arrives", so that a run is the same on any number of workers
and after any resume.
"""

from __future__ import annotations

import contextlib
import math
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from distes.errors import Notice, RunFailed
from distes.evaluators.base import Evaluator
from distes.population.distributions import Point, Table
from distes.population.records import Episodes, Evaluated, Population, Purpose, RunKey, Status
from distes.population.statistics import compute_score, student_quantile, summarise_generation
from distes.runs.snapshot import Selected, Snapshot
from distes.runs.writer import RunLog
from distes.search.observer import ObserverGroup
from distes.search.problem import SearchProblem
from distes.search.result import Reevaluation, Result
from distes.search.settings import Settings
from distes.strategies.numerics.ranking import pick_elites
from distes.types import FloatArray

Awaited = Callable[[], Episodes]
"""Waits for episodes that were asked for, and logs them."""

_ENDS = {
    Status.CRASHED: "killed its worker, again and again",
    Status.TIMEOUT: "outlived episode_timeout_s, twice",
}


class Session:
    """Runs one search from a snapshot, or from its beginning, to its result."""

    def __init__(
        self,
        search: Settings,
        problem: SearchProblem,
        evaluator: Evaluator,
        log: RunLog,
        observers: ObserverGroup,
    ) -> None:
        self._search = search
        self._observers = observers
        observers.log_event = log.add_event
        self._strategy = search.resolved_strategy
        self._problem = problem
        self._evaluator = evaluator
        self._log = log
        target = search.target
        self._target = search.resolved_task.reward_threshold if target is None else target
        self._log_s = 0.0
        self._failure_logged = False  # whether the log says why the run fails
        problem.on_run = log.add_evaluation
        problem.on_rerun = self._log_rerun

    def go(self, snapshot: Snapshot | None) -> Result:
        """Run to the end; log and workers are closed afterwards, whatever happens."""
        try:
            resumed_at = None if snapshot is None else snapshot.generation
            self._observers.tell("started", self._search, self._log.path, resumed_at)
            self._say_where()
            self._began = time.perf_counter() - (0.0 if snapshot is None else snapshot.elapsed_s)
            if snapshot is None:
                state = self._strategy.init(self._problem)
                solution = self._strategy.solution(self._problem, state)
                snapshot = Snapshot(0, self._problem.start, state, solution)
                self._log.commit(snapshot)
            else:
                self._log.add_event("resumed", generation=snapshot.generation)
            self._problem.evaluator = self._evaluator
            while not snapshot.stopped:
                snapshot = self._generation(snapshot)
            result = self._finish(snapshot)
        except BaseException as error:
            self._log_rest(error)
            self._close(failed=True)
            raise
        self._close(failed=False)
        self._observers.log_event = None
        self._observers.tell("finished", result)
        return result

    def _log_rest(self, error: BaseException) -> None:
        """Log what no answer will bring any more, and why the run stops."""
        with contextlib.suppress(Exception):  # the log itself may be what failed
            for each in self._evaluator.events():
                self._log.add_event(**each)  # type: ignore[arg-type]
            if isinstance(error, RunFailed) and not self._failure_logged:
                self._log.add_event("failed", reason=str(error))

    def _log_rerun(self, evaluated: Evaluated) -> None:
        """Log what happened while episodes were run again; their results are logged already."""
        place = {"generation": self._problem.generation, "purpose": Purpose.SEARCH.name.lower()}
        for each in evaluated.events:
            self._log.add_event(**{**place, **each})  # type: ignore[arg-type]

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
        self._observers.tell("asked", generation, lambda: pending.share)
        heldout = None
        if before.due is not None:
            # Behind the search's own episodes: it fills workers that would wait.
            heldout_key = RunKey(self._problem.seed, generation - 1)
            heldout = self._evaluator.submit(before.due, heldout_key)
        evaluated = pending.result()
        times.append(time.perf_counter())
        if generation == 0:
            self._refuse_hopeless(evaluated)
            _notice_absent_info(evaluated.episodes)
        state = self._strategy.tell(self._problem, before.strategy, population, evaluated.episodes)
        times.append(time.perf_counter())
        confirmed = None
        if before.due is not None and heldout is not None:
            answer = heldout.result()
            self._log.add_evaluation(heldout_key, before.due, answer)
            confirmed = self._confirm_heldout(generation - 1, before.due, answer)

        figures = summarise_generation(population, evaluated.episodes)
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
            last=self._select_top(population, evaluated.episodes),
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
        self._log.add_generation(row, key, population, evaluated)
        self._log.commit(snapshot)
        self._log_s = time.perf_counter() - began
        self._observers.tell("generation", row)
        self._refuse_meaningless(generation, evaluated)
        return snapshot

    def _say_where(self) -> None:
        """Say where a directory is, if there are several machines to look for it on."""
        if isinstance(self._log.path, Path) and self._evaluator.num_nodes > 1:
            warnings.warn(
                f"{self._log.path} is on the driver's machine (node {platform.node()}), which is "
                "enough: only the driver writes",
                Notice,
                stacklevel=2,
            )

    def _refuse_hopeless(self, evaluated: Evaluated) -> None:
        status = evaluated.episodes.status
        if (status == Status.OK).any():
            return
        tracebacks = [str(e["traceback"]) for e in evaluated.events if "traceback" in e]
        self._failure_logged = True
        self._log.add_event("failed", reason="every episode of the first generation failed")
        for event in evaluated.events:
            self._log.add_event(**event)  # type: ignore[arg-type]
        if tracebacks:
            raise RunFailed(
                f"every episode of the first generation failed; the first error was\n\n"
                f"{tracebacks[0]}"
            )
        found = {Status(int(each)) for each in np.unique(status)}
        if found <= {Status.CRASHED, Status.TIMEOUT}:
            ends = " or ".join(_ENDS[each] for each in sorted(found))
            raise RunFailed(f"every episode of the first generation {ends}")
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
        self._failure_logged = True
        self._log.add_event("failed", reason=reason)
        raise RunFailed(f"{reason}; the tracebacks are in events.jsonl, the run can be resumed")

    def _heldout_population(self, solution: Population) -> Population:
        return replace(
            solution, episodes=self._search.heldout_episodes, purpose=Purpose.HELDOUT, probes=()
        )

    def _confirm_heldout(
        self, generation: int, solution: Population, answer: Evaluated
    ) -> Population | None:
        """Read a held-out score; one at the target must hold on a fresh batch."""
        if not self._reaches(generation, answer, confirms=False):
            return None
        again = replace(solution, episodes=self._search.final_episodes)
        key = RunKey(self._problem.seed, generation, 1)
        answer = self._evaluator.submit(again, key).result()
        self._log.add_evaluation(key, again, answer)
        return again if self._reaches(generation, answer, confirms=True) else None

    def _reaches(self, generation: int, answer: Evaluated, *, confirms: bool) -> bool:
        found = compute_score(answer.episodes.episode_return)
        self._observers.tell("heldout", generation, found, self._target, confirms)
        return self._target is not None and found.failed == 0 and found.mean >= self._target

    def _select_top(self, population: Population, episodes: Episodes) -> Selected | None:
        """Keep the top candidates, where candidates differ and can be redrawn."""
        distribution = population.distribution
        if isinstance(distribution, Point) or distribution.uses_context:
            return None
        top = pick_elites(episodes.fitness, self._search.reevaluate)
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
        last = snapshot.last
        # All at once, as far as none depends on another: workers need not wait in between.
        heldout = trials = None
        if snapshot.confirmed is None:
            heldout = self._begin_evaluation(key, self._heldout_population(solution))
        if last is not None and len(last.returns):
            trials = self._begin_trials(key, solution, last)
        if heldout is not None:
            heldout()
        reevaluation = None
        if last is not None and trials is not None:
            top, own = trials
            fresh = self._values(top())
            reevaluation, better = self._judge_top_candidates(last, fresh, self._values(own()))
            if better is not None and snapshot.confirmed is None:
                solution = better
        test = replace(solution, episodes=search.final_episodes, purpose=Purpose.TEST)
        final = compute_score(self._begin_evaluation(key, test)().episode_return)
        self._log.add_event(
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
            path=self._log.path,
            search=search,
            reevaluation=reevaluation,
        )

    def _begin_trials(
        self, key: RunKey, solution: Population, last: Selected
    ) -> tuple[Awaited, Awaited]:
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
        return self._begin_evaluation(key, table), self._begin_evaluation(key, own, logged_call=1)

    def _judge_top_candidates(
        self, last: Selected, fresh: FloatArray, own: FloatArray
    ) -> tuple[Reevaluation, Population | None]:
        """Compare the top candidates' fresh values with the solution's on the same seeds."""
        fresh = fresh.reshape(len(last.returns), -1)
        best = find_clearly_better(fresh, own)
        valid = fresh[~np.isnan(fresh).any(axis=1)]
        reevaluation = Reevaluation(
            float(last.returns.mean()), float(valid.mean()) if len(valid) else math.nan
        )
        if best is None or self._search.resolved_task.fitness != "mean":
            # Other rules than the mean have no paired test: the solution stays.
            return reevaluation, None
        return reevaluation, Population(Point(last.parameters[best]), 1, frozen=last.frozen)

    def _values(self, episodes: Episodes) -> FloatArray:
        """What the task's mean rule averages."""
        shift = self._search.resolved_task.reward_shift
        return episodes.episode_return - shift * episodes.episode_length

    def _begin_evaluation(
        self, key: RunKey, population: Population, logged_call: int | None = None
    ) -> Awaited:
        """Begin an evaluation; ``logged_call`` tells apart two evaluations on the same seeds.

        Returns:
            What waits for the episodes, and logs them.
        """
        pending = self._evaluator.submit(population, key)
        logged = key if logged_call is None else key._replace(call=logged_call)

        def finish() -> Episodes:
            answer = pending.result()
            self._log.add_evaluation(logged, population, answer)
            return answer.episodes

        return finish


def _notice_absent_info(episodes: Episodes) -> None:
    """Say which info that is to be logged no episode has: its name may be misspelled."""
    absent = [repr(name) for name, column in episodes.info.items() if np.isnan(column).all()]
    if absent:
        warnings.warn(
            f"log_info {', '.join(absent)}: no episode of the first generation has it in its final "
            "info, and its column is empty so far",
            Notice,
            stacklevel=2,
        )


def find_clearly_better(candidates: FloatArray, solution: FloatArray) -> int | None:
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
