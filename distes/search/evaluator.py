"""The evaluator that a search's settings ask for, and the machine code that it needs."""

from __future__ import annotations

import time
from typing import Literal

from distes.engines import choice
from distes.engines.kernels import lookup
from distes.evaluators.base import Evaluator
from distes.evaluators.serial import SerialEvaluator
from distes.search.settings import Settings, notify
from distes.tasks.environment import Task


def compile_ahead(settings: Settings) -> float | None:
    """Compile what the engine of a search needs here, unless this machine has it already.

    Workers on this machine then load it; those elsewhere compile once on each of theirs.

    Returns:
        Seconds that it took; None where there was nothing to do.
    """
    task, policy = settings.resolved_task, settings.built_policy()
    if settings.resolved_engine() != "compiled":
        return None
    assert isinstance(task, Task)  # noqa: S101 - no other has a kernel
    if lookup.ready(task, policy):
        return None
    kept = "is kept" if lookup.keeps(task, policy) else "can't be kept here: each process does it"
    notify(f"compiling {task.name} with its policy: it takes a few seconds, and {kept}")
    began = time.perf_counter()
    choice.make("compiled", task, policy).prepare()
    return time.perf_counter() - began


def make_evaluator(settings: Settings, workers: int | Literal["auto"]) -> Evaluator:
    """Make the evaluator that a search's settings ask for.

    Raises:
        UsageError: there is no room for a worker.
    """
    task = settings.resolved_task
    engine = settings.resolved_engine()
    policy = settings.built_policy()
    if workers == 0:
        return SerialEvaluator(task, policy, engine)
    from distes.evaluators.ray import RayEvaluator

    return RayEvaluator(
        task,
        policy,
        engine,
        workers=workers,
        min_workers=settings.min_workers,
        cpus_per_worker=settings.cpus_per_worker,
        episode_timeout_s=settings.episode_timeout_s,
        address=settings.address,
        strict=settings.strict,
    )
