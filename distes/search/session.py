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
from distes.population.statistics import compute_score, summarise_generation
from distes.runs.snapshot import ScoredSolution, Selected, Snapshot
from distes.runs.writer import RunLog
from distes.search import rounds
from distes.search.deployment import (
    Deployment,
    deploy_after_trials,
    deploy_best_heldout,
    deploy_confirmed,
    deploy_solution,
    pick_better,
    score_solution,
)
from distes.search.limits import find_stop_reason
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
        self._target = search.resolved_target
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
                snapshot = Snapshot(
                    0, self._problem.start, state, solution, self._search.first_episode_steps
                )
                self._log.commit(snapshot)
            else:
                self._log.add_event("resumed", generation=snapshot.generation)
            self._problem.evaluator = self._evaluator
            while not snapshot.stopped:
                snapshot = self._generation(snapshot)
            result = self._finish(snapshot)
        except BaseException as error:
            self._log_rest(error)
            self._observers.tell("interrupted")
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
        if before.max_steps is not None:
            population = replace(population, max_steps=before.max_steps)
        env_steps = self._search.generation_env_steps
        if env_steps is not None:
            population = rounds.open_rounds(population)
        times.append(time.perf_counter())
        key = RunKey(self._problem.seed, generation)
        pending = self._evaluator.submit(population, key)
        self._observers.tell("asked", generation, lambda: pending.share)
        heldout = None
        if self._is_heldout_due(before):
            # Behind the search's own episodes: it fills workers that would wait.
            due = self._heldout_population(before.solution)
            heldout = self._begin_evaluation(RunKey(self._problem.seed, generation - 1), due)
        evaluated = pending.result()
        if env_steps is not None:
            population, evaluated = rounds.add_rounds(
                *(population, evaluated, key, self._problem.task, env_steps),
                lambda further: self._evaluator.submit(further, key).result(),
            )
        times.append(time.perf_counter())
        if generation == 0:
            self._refuse_hopeless(evaluated)
            _notice_absent_info(evaluated.episodes)
        state = self._strategy.tell(self._problem, before.strategy, population, evaluated.episodes)
        times.append(time.perf_counter())
        best, confirmed = before.best, None
        if heldout is not None:
            scored, confirmed = self._score_heldout(generation - 1, before.solution, heldout())
            best = pick_better(best, scored)

        figures = summarise_generation(population, evaluated.episodes)
        metrics = {k: float(v) for k, v in self._strategy.metrics(state).items()}
        snapshot = Snapshot(
            generation=generation + 1,
            start=before.start,
            strategy=state,
            solution=self._strategy.solution(self._problem, state),
            max_steps=rounds.grow_limit(before.max_steps, evaluated.episodes),
            episodes=before.episodes + population.num_episodes,
            env_steps=before.env_steps + int(evaluated.episodes.episode_length.sum()),
            elapsed_s=time.perf_counter() - self._began,
            elite=metrics.get("elite_return_mean", figures["fitness_max"]),
            best=best,
            confirmed=confirmed,
            last=self._select_top(population, evaluated.episodes),
        )
        snapshot = replace(snapshot, stopped=find_stop_reason(self._search, snapshot))

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

    def _is_heldout_due(self, before: Snapshot) -> bool:
        """Whether to score the newest solution: now and then, or with elites at the target."""
        at_target = self._target is not None and before.elite >= self._target
        on_schedule = before.generation % self._search.heldout_every == 0
        return before.generation > 0 and (at_target or on_schedule)

    def _score_heldout(
        self, generation: int, solution: Population, episodes: Episodes
    ) -> tuple[ScoredSolution | None, ScoredSolution | None]:
        """Read a held-out score; one at the target must hold on a fresh batch.

        Returns:
            The solution with the score that counts, None where an episode failed; and the same
            with the lesser of two scores if the target is reached.
        """
        first = compute_score(episodes.episode_return)
        self._observers.tell("heldout", generation, first, self._target, False)
        scored = score_solution(generation, first, solution)
        if scored is None or self._target is None or first.mean < self._target:
            return scored, None
        again = replace(self._heldout_population(solution), episodes=self._search.final_episodes)
        key = RunKey(self._problem.seed, generation, 1)
        second = compute_score(self._begin_evaluation(key, again)().episode_return)
        self._observers.tell("heldout", generation, second, self._target, True)
        scored = score_solution(generation, second, solution)
        if scored is None or second.mean < self._target:
            return scored, None
        return scored, replace(scored, mean=min(first.mean, second.mean))

    def _select_top(self, population: Population, episodes: Episodes) -> Selected | None:
        """Keep the top candidates, where candidates differ and can be redrawn."""
        distribution = population.distribution
        if isinstance(distribution, Point) or distribution.uses_context:
            return None
        top = pick_elites(episodes.fitness, self._search.reevaluate)
        values = self._values(episodes)
        returns = np.array([values[episodes.candidate == i].mean() for i in top])
        return Selected(top, distribution.draw(top), returns, population.frozen)

    def _finish(self, snapshot: Snapshot) -> Result:
        """Decide on fresh seeds what to deploy, and score that on fresher ones."""
        search = self._search
        reevaluation, (solution, deployed) = self._choose_deployed(snapshot)
        solution = replace(solution, episodes=1, purpose=Purpose.SEARCH)
        test = replace(solution, episodes=search.final_episodes, purpose=Purpose.TEST)
        final = compute_score(self._begin_final(snapshot, test)().episode_return)
        self._log.add_event(
            "finished",
            reason=snapshot.stopped,
            deployed=deployed,
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
            deployed=deployed,
            reevaluation=reevaluation,
        )

    def _choose_deployed(self, snapshot: Snapshot) -> tuple[Reevaluation | None, Deployment]:
        """Try the end's candidates for deployment, and choose; say what selection flattered."""
        search, last, confirmed = self._search, snapshot.last, snapshot.confirmed
        newest, generation = snapshot.solution, snapshot.generation - 1
        compared = newest if confirmed is None else confirmed.solution
        # All at once, as far as none depends on another: workers need not wait in between.
        heldout = trials = None
        if confirmed is None:
            heldout = self._begin_final(snapshot, self._heldout_population(newest), call=-1)
        if last is not None and len(last.returns):
            trials = self._begin_trials(snapshot, compared, last)
        best = snapshot.best
        if heldout is not None:
            score = compute_score(heldout().episode_return)
            best = pick_better(best, score_solution(generation, score, newest))
        reevaluation, chosen = None, deploy_solution(newest, generation)
        if last is not None and trials is not None:
            top, own = trials
            fresh = self._values(top()).reshape(len(last.returns), -1)
            mine = self._values(own())
            valid = fresh[~np.isnan(fresh).any(axis=1)]
            reevaluation = Reevaluation(
                float(last.returns.mean()), float(valid.mean()) if len(valid) else math.nan
            )
            if search.resolved_task.fitness == "mean":
                # Other rules than the mean have no paired test: the solution stays.
                chosen = deploy_after_trials(newest, generation, last, fresh, mine)
        if confirmed is not None:
            chosen = deploy_confirmed(confirmed)
        elif search.deploy == "best-heldout" and best is not None:
            chosen = deploy_best_heldout(best)
        return reevaluation, chosen

    def _begin_trials(
        self, snapshot: Snapshot, solution: Population, last: Selected
    ) -> tuple[Awaited, Awaited]:
        """Try top candidates and the solution on the same fresh seeds."""
        count, episodes = len(last.returns), self._search.heldout_episodes
        table = Population(
            Table(last.parameters),
            count,
            episodes=episodes,
            seed_group=count,
            frozen=last.frozen,
            purpose=Purpose.REEVALUATION,
        )
        own = replace(solution, episodes=episodes, purpose=Purpose.REEVALUATION)
        return self._begin_final(snapshot, table), self._begin_final(snapshot, own, call=-1)

    def _values(self, episodes: Episodes) -> FloatArray:
        """What the task's mean rule averages."""
        shift = self._search.resolved_task.reward_shift
        return episodes.episode_return - shift * episodes.episode_length

    def _begin_final(self, snapshot: Snapshot, population: Population, call: int = 0) -> Awaited:
        """Begin an evaluation of the end.

        Its seeds are those of a generation that was never run; in the log it belongs to the last
        one that was. ``call`` tells it apart there, below 0 from those of the loop.
        """
        key = RunKey(self._problem.seed, snapshot.generation)
        logged = key._replace(generation=snapshot.generation - 1, call=call)
        return self._begin_evaluation(key, population, logged)

    def _begin_evaluation(
        self, key: RunKey, population: Population, logged: RunKey | None = None
    ) -> Awaited:
        """Begin an evaluation; the log has it under its key, or under ``logged``.

        Returns:
            What waits for the episodes, and logs them.
        """
        pending = self._evaluator.submit(population, key)

        def finish() -> Episodes:
            answer = pending.result()
            self._log.add_evaluation(key if logged is None else logged, population, answer)
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
