"""A run summed up in plain text: what it is, how far it is, what came out, what next."""

from __future__ import annotations

import math
import shlex
import textwrap
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from distes.population.statistics import Score
from distes.registry import NONE, find_own, settings_of, to_plain
from distes.runs.reader import Run, load
from distes.search.config_file import search_settings
from distes.search.masking import mask_secrets
from distes.search.tables import SECTIONS
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask
from distes.views import scores
from distes.views.escapes import escape_controls
from distes.views.text import (
    format_duration,
    format_generation_size,
    format_number,
    format_score,
    name_population_source,
)

WIDTH = 100
_WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}

_SHOWN_ELSEWHERE = {"env", "function", "seed", "target", "threshold", "engine", "out"}
_SHOWN_ELSEWHERE |= {"context", "context_low", "context_high"}
_SHOWN_ELSEWHERE |= {"population", "episodes", "generation_env_steps"}
"""Settings that have a line of their own, or none."""

_LEFT_OPEN = {"deploy": "mean"}
"""What settings without a default are where nothing is chosen for them; others are false."""

_MILESTONES = {"finished", "failed", "resumed"}
_NOT_COUNTED = _MILESTONES | {"worker_joined", "extended"}

_REPEATED = {
    "retries": "ran again, with equal results",
    "duplicates": "ran twice so as not to wait for a slow worker, with equal results",
}
"""Figures of the generations about work done more than once."""


def describe_run(path: str | Path) -> str:
    """Sum up a run, finished or not.

    Args:
        path: run directory.

    Returns:
        Some lines of aligned text: what is run, its state and progress, its scores, what
        went wrong, and the commands to go on with.

    Raises:
        UsageError: it is not a run directory that can be read.
    """
    run = load(path)
    blank = ("", "")
    parts = [*_describe_identity(run), blank, *_describe_progress(run), *_describe_results(run)]
    parts += [*_describe_trouble(run), blank]
    commands = list(_suggest_commands(run))
    width = max(len(name) for name, _ in [*parts, *commands]) + 2
    lines = []
    for name, text in parts:
        wrapped = textwrap.wrap(text, WIDTH - width, **_WHOLE_WORDS) or [""]
        lines += [f"{name:{width}}{wrapped[0]}", *(" " * width + more for more in wrapped[1:])]
    lines += [f"{name:{width}}{text}" for name, text in commands]  # to be copied: never broken
    return escape_controls("\n".join(line.rstrip() for line in lines))


def _describe_identity(run: Run) -> Iterator[tuple[str, str]]:
    config = run.config
    settings = config["search"]
    yield "run", str(run.path)
    task_class = FunctionTask if "function" in settings else Task
    goal = scores.find_target(config)
    target = "" if goal is None else f", target {format_number(goal)}"
    yield "task", scores.name_task(config) + target
    chosen = config.get("chosen", ())
    for table in SECTIONS:
        if table in settings:
            auto = " (auto)" if table in chosen else ""
            yield table, _describe_choice(table, settings[table]) + auto
    yield "generation", _describe_generation_size(config)
    if "num_parameters" in config:
        yield "parameters", str(config["num_parameters"])
    if scores.has_contexts(config):
        yield "context", _describe_context(run)
    # How many generations, where nothing was said of them, is no change.
    told = {key: value for key, value in settings.items() if key != "generations"}
    told = told if "generations" in chosen else settings
    changed = _list_changes(told, {**settings_of(task_class), **search_settings()}, chosen)
    if changed:
        yield "settings", changed
    yield "seed", str(settings.get("seed", 0))
    if "engine" in config:
        yield "engine", str(config["engine"])
    known = [f"{name} {version}" for name, version in config.get("versions", {}).items()]
    known += [f"Python {config['python']}"] if "python" in config else []
    if known:
        yield "versions", ", ".join(known)
    if config.get("git_revision"):
        yield "revision", str(config["git_revision"])


def _describe_generation_size(config: Mapping[str, Any]) -> str:
    settings = config["search"]
    population, strategy = settings.get("population"), settings.get("strategy", {}).get("name")
    source = name_population_source(population, config.get("chosen", ()), str(strategy))
    candidates = population if isinstance(population, int) else config.get("num_candidates")
    episodes, env_steps = settings.get("episodes", 1), settings.get("generation_env_steps")
    return format_generation_size(candidates, episodes, source, env_steps)


def _describe_context(run: Run) -> str:
    """Say where contexts come from, how long they are, and which features are learnt from."""
    settings = run.config["search"]
    size = run.config.get("num_contexts", 0)
    names = f" ({', '.join(run.context_names)})" if run.context_names else ""
    said = [f"{size} number{'s' if size > 1 else ''}{names}", f"from {settings['context']}"]
    ends = [settings.get("context_low"), settings.get("context_high")]
    if all(isinstance(end, list) for end in ends):
        said.append(" to ".join(",".join(map(format_number, end)) for end in ends))
    said += [
        f"{name.replace('_', ' ')} {value}"
        for name, value in settings.get("strategy", {}).items()
        if name.endswith("_features")
    ]
    return ", ".join(said)


def _describe_choice(table: str, settings: Mapping[str, Any]) -> str:
    """Name a strategy or policy, with the settings that are not its defaults."""
    name, values = settings["name"], {k: v for k, v in settings.items() if k != "name"}
    accepted: Mapping[str, Any] = {}
    # Others' classes are not imported for this: all their settings are shown.
    if cls := find_own(*SECTIONS[table]).get(name):
        accepted = settings_of(cls)
    return ", ".join(filter(None, [str(name), _list_changes(values, accepted)]))


def _list_changes(
    values: Mapping[str, Any], accepted: Mapping[str, Any], chosen: Collection[str] = ()
) -> str:
    """List settings other than their defaults, those that ``auto`` chose marked."""
    said = []
    for key, value in values.items():
        if key in _SHOWN_ELSEWHERE or key in SECTIONS:
            continue
        if key in accepted:
            default = _LEFT_OPEN.get(key, to_plain(accepted[key].default))
            if value == (NONE if default is None else default) or (default is None and not value):
                continue
        shown = format_number(value) if isinstance(value, float) else mask_secrets(value)
        said.append(f"{key} {shown}{' (auto)' if key in chosen else ''}")
    return ", ".join(said)


def _describe_progress(run: Run) -> Iterator[tuple[str, str]]:
    yield "state", describe_state(run)
    rows = run.generations
    if rows.empty:
        return
    last = rows.sort_values("generation").iloc[-1]
    steps, seconds = int(rows["env_steps"].sum()), float(rows["run_s"].sum())
    yield "generations", f"{len(rows):,}"
    yield "episodes", f"{int(rows['episodes'].sum()):,}{_describe_failures(run)}"
    rate = f", {steps / seconds:,.0f} a second" if seconds > 0 else ""
    yield "env steps", f"{steps:,}{rate}"
    yield "elapsed", format_duration(float(last["elapsed_s"]))
    figures = [("mean", "episode_return_mean"), ("elite mean", "elite_return_mean")]
    figures += [("best", "episode_return_max")]
    said = [f"{name} {format_number(last[key])}" for name, key in figures if key in last]
    yield "last generation", "returns: " + ", ".join(said)
    workers = int(last.get("workers", 0))
    if workers:
        worked = float((rows["utilisation"] * rows["run_s"]).sum())
        share = worked / seconds if seconds else math.nan
        busy = f", {share:.0%} of their time in episodes" if math.isfinite(share) else ""
        kinds = Counter(str(event.get("kind")) for event in run.events)
        counts = {what: kinds[f"worker_{what}"] for what in ("joined", "lost")}
        came = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
        yield "workers", f"{workers:,} in the last generation{busy}{came and '; '}{came}"


def _describe_failures(run: Run) -> str:
    failed = int(run.generations["failed"].sum())
    if not failed:
        return ""
    counts = {status: count for status, count in run.statuses().items() if status != "ok"}
    return f", {failed:,} failed ({', '.join(f'{n:,} {status}' for status, n in counts.items())})"


def describe_state(run: Run) -> str:
    """Say how far a run is, or why it ended."""
    finished = _find_finish(run)
    if finished is not None:
        return f"finished: {finished.get('reason', 'no reason was logged')}"
    rows = run.generations
    at = "before its first generation was written"
    if not rows.empty:
        at = f"after generation {int(rows['generation'].max())}"
    if run.is_written():
        return f"running, {at}"
    milestones = [event for event in run.events if event.get("kind") in _MILESTONES]
    if milestones and milestones[-1]["kind"] == "failed":
        return f"failed: {milestones[-1].get('reason', 'no reason was logged')}"
    return f"interrupted {at}"


def is_finished(path: str | Path) -> bool:
    """Whether a run is complete, its final score included."""
    return _find_finish(load(path)) is not None


def can_resume(run: Run) -> bool:
    """Whether the command line can go on with a run: a script's own task it does not know."""
    settings = run.config.get("search", {})
    return not any(str(settings.get(key, "")).startswith("<") for key in ("env", "function"))


def _find_finish(run: Run) -> Mapping[str, Any] | None:
    # The event is written a moment before the final scores are: a kill may come between. A
    # finished run that is resumed was extended.
    found = [event for event in run.events if event.get("kind") in _MILESTONES]
    ended = found and found[-1]["kind"] == "finished" and scores.score_test(run) is not None
    return found[-1] if ended else None


def _describe_results(run: Run) -> Iterator[tuple[str, str]]:
    held = scores.score_heldout(run)
    valid = {number: each for number, each in held.items() if math.isfinite(each.mean)}
    if valid:
        best = max(valid, key=lambda number: valid[number].mean)
        yield "best held-out", f"{_format_range(valid[best])}, after generation {best}"
        newest = max(valid)
        if newest != best:
            yield "last held-out", f"{_format_range(valid[newest])}, after generation {newest}"
    final = scores.score_test(run)
    if final is not None:
        yield "final score", format_score(final)
    finished = _find_finish(run) or {}
    if "deployed" in finished:
        yield "deployed", str(finished["deployed"])
    if isinstance(finished.get("gap"), int | float):
        yield (
            "selection",
            f"the last top candidates had {format_number(finished['search_score'])} when they were "
            f"selected, {format_number(finished['fresh_score'])} on fresh seeds: a gap of "
            f"{format_number(finished['gap'])}",
        )


def _describe_trouble(run: Run) -> Iterator[tuple[str, str]]:
    rows = run.generations
    for column, why in _REPEATED.items():
        if count := int(rows[column].sum()) if column in rows else 0:
            yield column, f"{count:,} chunk{'s' if count > 1 else ''} {why}"
    events = Counter(str(event.get("kind")) for event in run.events)
    if resumed := events["resumed"]:
        yield "resumed", f"{resumed} time{'s' if resumed > 1 else ''}"
    others = [f"{count:,} {kind}" for kind, count in events.items() if kind not in _NOT_COUNTED]
    if others:
        yield "events", ", ".join(others)
    tracebacks = [str(e["traceback"]) for e in run.events if e.get("traceback")]
    if tracebacks:
        yield "first error", tracebacks[0].strip().splitlines()[-1]


def _suggest_commands(run: Run) -> Iterator[tuple[str, str]]:
    path = shlex.quote(str(run.path))
    left = _find_finish(run) is None and not run.is_written()
    if not can_resume(run):
        if left:
            yield "next", f"Search(..., out={str(run.path)!r}).proceed() in the script that made it"
        return
    if left:
        yield "next", f"distes resume {path}"
    if not run.generations.empty:
        yield "" if left else "next", f"distes evaluate {path}"
        yield "", f"distes plot {path} --out {shlex.quote(run.path.name + '.png')}"
        if scores.has_contexts(run.config):
            image = shlex.quote(f"{run.path.name}-context.png")
            yield "", f"distes plot {path} --over context --out {image}"
        if "env" in run.config["search"]:
            yield "", f"distes replay {path} --out {shlex.quote(run.path.name + '.mp4')}"
    elif not left:
        yield "next", f"distes info {path}, once a generation is written"


def _format_range(score: Score) -> str:
    mean, low, high = map(format_number, (score.mean, score.low, score.high))
    return f"{mean} ({low} to {high})"
