"""Distributed, exact policy search by population.

>>> import distes
>>> search = distes.Search("CartPole-v1", strategy=distes.strategies.CEM(elite_fraction=0.2))
>>> search.generations
100

Names are loaded when they are first used: a command that needs neither Ray nor
Gymnasium does not wait for them. Environments of distes are registered with Gymnasium as
soon as both are imported, in whatever order.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from distes.imports import once_imported

if TYPE_CHECKING:
    from distes import distributions as distributions
    from distes import policies as policies
    from distes import strategies as strategies
    from distes.analysis.plotting import plot as plot
    from distes.analysis.replay import Replay as Replay
    from distes.analysis.replay import replay as replay
    from distes.errors import RunFailed as RunFailed
    from distes.errors import UsageError as UsageError
    from distes.population import Episodes as Episodes
    from distes.population import Population as Population
    from distes.runs.reader import load as load
    from distes.search import Observer as Observer
    from distes.search import Result as Result
    from distes.search import Search as Search
    from distes.search import evaluate as evaluate
    from distes.search import load_parameters as load_parameters
    from distes.search import load_policy as load_policy
    from distes.task import FunctionTask as FunctionTask
    from distes.task import Task as Task

_MODULES = ("distributions", "policies", "strategies", "testing")
_HOMES = {
    "analysis.plotting": ("plot",),
    "analysis.replay": ("Replay", "replay"),
    "errors": ("RunFailed", "UsageError"),
    "population": ("Episodes", "Population"),
    "runs.reader": ("load",),
    "search": ("Observer", "Result", "Search", "evaluate", "load_parameters", "load_policy"),
    "task": ("FunctionTask", "Task"),
}
_HOME_OF = {name: home for home, found in _HOMES.items() for name in found}

__all__ = [  # noqa: PLE0604 - the table above is the list
    *_HOME_OF,
    *_MODULES,
]


once_imported("gymnasium", lambda: importlib.import_module("distes.envs"))


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"distes.{name}")
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"distes.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'distes' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
