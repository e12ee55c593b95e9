"""Engines: each runs whole episodes, and all agree on what an episode is."""

from __future__ import annotations

import importlib
import pkgutil

from distes.errors import unknown
from distes.policies.base import Policy
from distes.rollouts.base import Chunk, Engine, assemble
from distes.task import AnyTask, FunctionTask

__all__ = ["Chunk", "Engine", "assemble", "make", "names", "resolve"]


def names() -> list[str]:
    """List the engines' names, one per file."""
    return [m.name for m in pkgutil.iter_modules(__path__) if m.name != "base"]


def resolve(engine: str, task: AnyTask) -> str:
    """Settle, once and on the driver, which engine runs a task.

    Raises:
        UsageError: the engine is unknown, or cannot run this kind of task.
    """
    natural = "function" if isinstance(task, FunctionTask) else "loop"
    if engine in ("auto", natural):
        return natural
    raise unknown(f"engine for {task.name}", engine, ["auto", natural])


def make(engine: str, task: AnyTask, policy: Policy) -> Engine:
    """Make a resolved engine, on the process that will run it."""
    module = importlib.import_module(f"distes.rollouts.{engine}")
    made: Engine = module.make(task, policy)
    return made
