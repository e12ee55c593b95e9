"""The evaluator that a search's settings ask for, and the machine code that it needs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Literal

from distes.engines.compiled import CompiledEngine
from distes.engines.kernels import lookup
from distes.errors import UsageError
from distes.evaluators.auto import PATIENCE_S, SEARCH_S, AutoEvaluator, is_ray_connected
from distes.evaluators.base import Evaluator
from distes.evaluators.serial import SerialEvaluator
from distes.search.settings import Settings, notify
from distes.tasks.environment import Task

IN_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray for the entrypoint of a submitted job."""

WORKER_BYTES = 60_000_000
"""Memory that a worker has for itself, before its environment."""


def refuse_crowd(settings: Settings) -> None:
    """Refuse more workers than this machine's memory holds; say where they share its cores.

    Raises:
        UsageError: they do not fit.
    """
    workers, cores = settings.workers, os.cpu_count() or 1
    wanted = settings.address or os.environ.get("RAY_ADDRESS") or "local"
    if workers == "auto" or wanted != "local" or is_ray_connected():
        return
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if (needed := workers * WORKER_BYTES) > memory:
        raise UsageError(
            f"workers {workers:,} need {needed / 1e9:,.0f} GB, and this machine has "
            f"{memory / 1e9:,.0f} GB and {cores} cores: auto takes a worker for each core"
        )
    if workers * settings.cpus_per_worker > cores:
        notify(
            f"workers {workers} share {cores} cores: that is no faster, unless episodes wait for "
            "something else; auto takes a worker for each core"
        )


def compile_ahead(settings: Settings, *, meanwhile: bool = False) -> float | None:
    """Compile what the engine of a search needs here, unless this machine has it already.

    Workers on this machine then load it; those elsewhere compile once on each of theirs.

    Args:
        settings: of the search.
        meanwhile: leave to the engine what it compiles while it runs.

    Returns:
        Seconds that it took; None where there was nothing to do.
    """
    task, policy = settings.resolved_task, settings.built_policy()
    if settings.resolved_engine() != "compiled":
        return None
    assert isinstance(task, Task)  # noqa: S101 - no other has a kernel
    if lookup.ready(task, policy):
        return None
    keeps, engine = lookup.keeps(task, policy), CompiledEngine(task, policy)
    meanwhile = meanwhile and keeps and engine.is_exact
    kept = "is kept" if keeps else "can't be kept here: each process does it"
    also = "; meanwhile it runs step by step, with the same results" if meanwhile else ""
    notify(f"compiling {task.name} with its policy: it takes a few seconds, and {kept}{also}")
    if meanwhile:
        return None
    began = time.perf_counter()
    engine.prepare()
    return time.perf_counter() - began


def make_evaluator(
    settings: Settings,
    workers: int | Literal["auto"],
    *,
    say: Callable[[str], None] = lambda _: None,
    resumes: bool = False,
) -> Evaluator:
    """Make the evaluator that a search's settings ask for.

    Args:
        settings: of the search.
        workers: how many; ``auto`` begins in this process where nothing asks for workers.
        say: told where episodes run.
        resumes: whether an unfinished run goes on. What ended it may have been an episode that
            kills its process, which costs a worker, and the whole run in this process.

    Raises:
        UsageError: there is no room for a worker.
    """

    def hire(reason: str = "") -> Evaluator:
        from distes.evaluators.ray import RayEvaluator

        needless = "" if workers == "auto" and reason else " (--workers 0 needs none)"
        say(f"{reason}{': ' if reason else ''}starting Ray workers{needless}")
        return RayEvaluator(
            settings.resolved_task,
            settings.built_policy(),
            settings.resolved_engine(),
            workers=workers,
            min_workers=settings.min_workers,
            cpus_per_worker=settings.cpus_per_worker,
            episode_timeout_s=settings.episode_timeout_s,
            address=settings.address,
            strict=settings.strict,
        )

    small = workers == "auto" and not resumes and not _needs_workers(settings)
    here_first = workers == 0 or small
    compile_ahead(settings, meanwhile=here_first)
    if not here_first:
        return hire()
    here = SerialEvaluator(
        settings.resolved_task, settings.built_policy(), settings.resolved_engine()
    )
    if not small:
        return here
    say(
        f"begins in this process; workers start once generations of more than {SEARCH_S:g} s have "
        f"taken {PATIENCE_S:g} s"
    )
    return AutoEvaluator(here, hire)


def _needs_workers(settings: Settings) -> bool:
    """Whether something else than the number of workers asks for them."""
    return (
        settings.address is not None
        or "RAY_ADDRESS" in os.environ
        or IN_RAY_JOB in os.environ
        or is_ray_connected()
        or settings.episode_timeout_s is not None
        or settings.min_workers > 1
        or settings.cpus_per_worker != 1
    )
