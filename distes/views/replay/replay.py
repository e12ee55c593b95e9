"""Watching a run's policy: its solution on new episodes, or a logged candidate on its own."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from distes.errors import UsageError, require_at_least
from distes.evaluators.serial import SerialEvaluator
from distes.policies.base import Policy
from distes.population.records import Episodes, Evaluated, Population, Purpose, Rerun, Status
from distes.runs.reader import Run, load
from distes.runs.tables import name_columns
from distes.search.settings import Settings
from distes.search.solution import find_logged_candidate, impose_contexts, read_solution
from distes.search.trust import rebuild_settings
from distes.seeds import RunKey
from distes.tasks.contexts import parse_contexts
from distes.tasks.environment import Task
from distes.views.replay import recording
from distes.views.replay.recording import Camera, Rendering, find_rendering
from distes.views.replay.video import FORMATS, Video, locate_video

MAX_LOGGED_EPISODES = 10
"""Episodes of a logged candidate that are shown unless another number is asked for."""

ROUNDING = 1e-9
"""Relative difference up to which returns count as the same."""

_LOST = {"crashed": "killed its worker", "timeout": "outlived episode_timeout_s"}


@dataclass(frozen=True, eq=False)
class Replay:
    """What was seen.

    Attributes:
        played: says what was: the solution, or which candidate.
        episodes: one row an episode: ``episode``, ``seed``, ``episode_return``,
            ``episode_length``, ``terminated``, ``truncated``, ``status``; of a logged
            candidate also ``logged_return``; with contexts ``context_0`` ..., or
            ``context_NAME`` where the environment names them.
        path: of the video; None where it was shown in a window.
        frames: in it.
        seconds: it takes.
        cut: whether it ends before the episodes do, as it would be too long.
        fault: what the first failed episode failed with; None if none did.
    """

    played: str
    episodes: pd.DataFrame
    path: Path | None
    frames: int = 0
    seconds: float = 0.0
    cut: bool = False
    fault: str | None = None

    def __str__(self) -> str:
        """Say what was seen."""
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """Say what was played, each episode's return, and what was written."""
        said = [self.played]
        for row in self.episodes.to_dict("records"):
            total, logged = row["episode_return"], row.get("logged_return")
            same = "" if logged is None else f", logged {logged:.17g}"
            if logged is not None and _agree(total, logged):
                exact = total == logged or math.isnan(total)
                same = ", as logged" if exact else ", as logged up to rounding"
            failed = "" if row["status"] == "ok" else f", {row['status']}"
            said.append(
                f"episode {row['episode']}: return {total:.10g}{same}, "
                f"{row['episode_length']} steps{failed}"
            )
        if self.fault is not None:
            said.append(f"the first failed with {self.fault}")
        if self.path is not None:
            end = ", where it is full: fewer episodes fit it" if self.cut else ""
            said.append(f"{self.path}: {self.frames:,} frames, {self.seconds:.0f} s{end}")
        return said

    @property
    def differences(self) -> str | None:
        """Say which returns are not those of the log; None if all are."""
        if "logged_return" not in self.episodes:
            return None
        differ = [
            f"{row['episode']} ({row['episode_return']:.17g}, logged {row['logged_return']:.17g})"
            for row in self.episodes.to_dict("records")
            if not _agree(row["episode_return"], row["logged_return"])
        ]
        if not differ:
            return None
        return (
            f"the returns of these episodes differ from the log: {', '.join(differ)}; the "
            "environment, its libraries or the processor are others than in the run, or it leaks "
            "from one episode into the next, which distes check would find, or the run was "
            "compiled and its policy rounds otherwise (docs/kernels.md)"
        )


def replay(
    path: str | Path,
    *,
    out: str | Path | None = None,
    show: bool = False,
    generation: int | None = None,
    candidate: int | None = None,
    best: bool = False,
    episodes: int | None = None,
    context: Any = None,
    seed: int | None = None,
    force: bool = False,
    trust: bool = False,
) -> Replay:
    """Watch a run's policy in its environment, in a video or a window.

    The solution meets fresh episodes: the first of those that `distes.evaluate` scores it on
    with the same seed. A logged candidate is rebuilt from the log and meets its own episodes
    again, to the same returns.

    Args:
        path: run directory; of a run in progress the newest solution is shown.
        out: video to write, ``.mp4`` or ``.gif``; a machine without a display will do.
        show: open a window instead.
        generation: of a logged candidate, counted from 0; None takes the solution.
        candidate: its number within the generation, from 0.
        best: take the candidate with the greatest logged return, its mean where it has
            several episodes, of the generation or of all; the first of equals.
        episodes: how many; None is 1, or all that a candidate has, at most `MAX_LOGGED_EPISODES`.
        context: (k,) to impose on the solution.
        seed: another seed gives the solution other episodes; None is 0.
        force: overwrite ``out`` if it is there.
        trust: import and run what the run names, though it is not known to be one of yours
            (docs/security.md).

    Raises:
        UsageError: there is no such run, generation, candidate or episode; the task is a
            function or can't be rendered; the run names code that is not trusted; the file is
            there already, or can't be written.
    """
    if show == (out is not None):
        raise UsageError("say where to watch: out (--out FILE.mp4) or show (--show), one of them")
    require_at_least("episodes", episodes, 1)
    require_at_least("seed", seed, 0)
    require_at_least("generation", generation, 0)
    place = None if out is None else locate_video(out, force=force)
    run = load(path)
    search = rebuild_settings(run, Settings, trust=trust)
    how = find_rendering(search.resolved_task, "human" if show else "rgb_array")
    if best:
        if candidate is not None:
            raise UsageError("best (--best) finds the candidate: leave out candidate")
        generation, candidate = find_best_candidate(run, generation)
    if generation is None and candidate is None:
        population = read_solution(run)
        if context is not None:
            task = search.resolved_task
            contexts = parse_contexts(context, task.num_contexts, task.name)
            if len(contexts) > 1:
                raise UsageError(f"one context is shown at a time, and {len(contexts)} are given")
            population = impose_contexts(population, contexts)
        population = replace(population, episodes=episodes or 1, purpose=Purpose.TEST)
        chosen = _Playlist("the solution, on new episodes", population)
    else:
        for name, value in (("context", context), ("seed", seed)):
            if value is not None:
                said = "a logged candidate is shown on its own episodes: leave out"
                raise UsageError(f"{said} {name}")
        chosen = _choose_candidate(run, generation, candidate, episodes)

    policy, population = search.built_policy(), chosen.population

    def watch(camera: Camera | None) -> Replay:
        task = search.resolved_task
        answer = watch_episodes(task, how, policy, population, camera, seed or 0)
        table = _tabulate_episodes(answer.episodes, chosen.logged, run.context_names)
        return Replay(chosen.played, table, place, fault=describe_fault(answer))

    if place is None:
        return watch(None)
    every = how.count_steps_per_frame(FORMATS[place.suffix.lower()].fps)
    fps = how.fps / every
    with Video(place, fps) as film:
        camera = Camera(film.add, fps, every, population.num_episodes)
        seen = watch(camera)
        if not film.frames:
            raise UsageError(
                f"there is nothing to see: {how.task.name} fails before its first frame, with "
                f"{seen.fault}"
            )
    return replace(seen, frames=film.frames, seconds=film.frames / fps, cut=camera.full)


class _Playlist(NamedTuple):
    """What is to be played: in words, the episodes, and what the log of a search says of them."""

    played: str
    population: Population
    logged: pd.DataFrame | None = None


def watch_episodes(
    task: Any,
    how: Rendering,
    policy: Policy,
    population: Population,
    camera: Camera | None,
    seed: int = 0,
) -> Evaluated:
    """Run a population's episodes where they are seen, by the engine that runs them anywhere.

    Args:
        task: of the run.
        how: from `find_rendering`.
        policy: built for the task.
        population: with the episodes to be run.
        camera: what sees them; None for a window.
        seed: from which new episodes' seeds follow.
    """
    assert isinstance(task, Task)  # noqa: S101 - `find_rendering` refuses others
    # Whether an instance is kept between episodes is as it was in the search: other arguments
    # would make another environment of it.
    same = {each.name: getattr(task, each.name) for each in fields(Task)}
    shown = recording.RenderedTask(**same, how=how, camera=camera)
    evaluator = SerialEvaluator(shown, policy, "loop")
    try:
        with threadpool_limits(1), recording.without_display():
            return evaluator.submit(replace(population, probes=()), RunKey(seed, 0)).result()
    finally:
        evaluator.close()


def describe_fault(answer: Evaluated) -> str | None:
    """Say what the first failed episode failed with; None if none did."""
    for event in answer.events:
        if "traceback" in event:
            return str(event["traceback"]).strip().splitlines()[-1]
    return None


def _choose_candidate(
    run: Run, generation: int | None, candidate: int | None, episodes: int | None
) -> _Playlist:
    """Rebuild a logged candidate, with its own episodes and what the log says of them."""
    population, number = find_logged_candidate(run, generation, candidate)
    assert generation is not None  # noqa: S101 - refused by the line above
    rows = run.episodes_of(generation)
    rows = rows[rows["candidate"] == number].sort_values("episode")
    if rows.empty:
        said = f"candidate {number} of generation {generation}"
        raise UsageError(f"{run.path} holds no episode of {said}")
    mean = float(rows["episode_return"].to_numpy().mean())
    total = f"mean return {mean:.10g} of {len(rows)}" if len(rows) > 1 else f"return {mean:.10g}"
    played = f"generation {generation}, candidate {number}, {total}"
    count = min(len(rows), MAX_LOGGED_EPISODES) if episodes is None else episodes
    if count > len(rows):
        raise UsageError(
            f"candidate {number} of generation {generation} has {len(rows)} logged "
            f"episode{'s' if len(rows) > 1 else ''}, and {count} are asked for"
        )
    rows = rows.iloc[:count]
    for status, what in _LOST.items():
        if (rows["status"] == status).any():
            said = f"candidate {number} of generation {generation}"
            raise UsageError(f"{said} {what}, and would do so here")
    keys = ("candidate", "episode", "seed")
    candidates, numbers, seeds = (rows[name].to_numpy(np.int64) for name in keys)
    starts = np.full_like(seeds, seeds[0]) if population.same_start else seeds
    again = Rerun(candidates, numbers, seeds, starts)
    return _Playlist(played, replace(population, rerun=again), rows)


def find_best_candidate(run: Run, generation: int | None = None) -> tuple[int, int]:
    """Find the candidate with the greatest mean of logged returns; the first of equals.

    Args:
        run: where it is.
        generation: to look in; None looks in all.

    Returns:
        Its generation and its number there.

    Raises:
        UsageError: there are no episodes, or no candidate without a failed one.
    """
    chosen = None if generation is None else (generation, generation + 1)
    columns = ["generation", "candidate", "episode_return"]
    rows = run.read("episodes", columns=columns, generations=chosen)
    where = "" if generation is None else f" of generation {generation}, counted from 0"
    if rows.empty:
        raise UsageError(f"{run.path} holds no episodes{where}")
    keys = [rows["generation"], rows["candidate"]]
    # A failed episode has no return, and its candidate no mean.
    means = rows["episode_return"].fillna(-math.inf).groupby(keys).mean()
    if not np.isfinite(means).any():
        raise UsageError(f"each candidate of {run.path}{where} has a failed episode")
    found: Any = means.index[int(means.to_numpy().argmax())]
    return int(found[0]), int(found[1])


def _tabulate_episodes(
    episodes: Episodes, logged: pd.DataFrame | None, context_names: list[str] | None
) -> pd.DataFrame:
    names = ("episode", "seed", "episode_return", "episode_length", "terminated", "truncated")
    table = pd.DataFrame({name: getattr(episodes, name) for name in names})
    table["status"] = [Status(int(each)).name.lower() for each in episodes.status]
    if logged is not None:
        table["logged_return"] = logged["episode_return"].to_numpy()
    if episodes.contexts is not None:
        table = table.assign(**name_columns(list(episodes.contexts.T), context_names))
    return table


def _agree(one: float, other: float) -> bool:
    """Whether returns agree but for rounding: compiled runs have their own tanh and exp."""
    return math.isclose(one, other, rel_tol=ROUNDING) or (math.isnan(one) and math.isnan(other))
