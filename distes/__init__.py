"""Distributed, exact policy search by population.

>>> import distes
>>> search = distes.Search("CartPole-v1", strategy=distes.strategies.CEM(elite_fraction=0.2))
>>> search.generations
100

Names are loaded when they are first used: a command that needs neither Ray nor
Gymnasium does not wait for them. ``import distes.tasks.envs`` registers the environments
of distes with Gymnasium; `Task` and `Search` do so by themselves.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distes import policies as policies
    from distes import strategies as strategies
    from distes.errors import RunFailed as RunFailed
    from distes.errors import UsageError as UsageError
    from distes.population import distributions as distributions
    from distes.population.records import Episodes as Episodes
    from distes.population.records import Population as Population
    from distes.runs.reader import load as load
    from distes.search.observer import Observer as Observer
    from distes.search.result import Result as Result
    from distes.search.search import Search as Search
    from distes.search.solution import evaluate as evaluate
    from distes.search.solution import evaluate_contexts as evaluate_contexts
    from distes.search.solution import load_parameters as load_parameters
    from distes.search.solution import load_policy as load_policy
    from distes.tasks.environment import Task as Task
    from distes.tasks.function import FunctionTask as FunctionTask
    from distes.views.figures.plot import plot as plot
    from distes.views.replay.replay import Replay as Replay
    from distes.views.replay.replay import replay as replay

__version__ = "0.1.0"

_MODULES = {
    "distributions": "population.distributions",
    "policies": "policies",
    "strategies": "strategies",
    "testing": "testing",
}
_HOMES = {
    "errors": ("RunFailed", "UsageError"),
    "population.records": ("Episodes", "Population"),
    "runs.reader": ("load",),
    "search.observer": ("Observer",),
    "search.result": ("Result",),
    "search.search": ("Search",),
    "search.solution": ("evaluate", "evaluate_contexts", "load_parameters", "load_policy"),
    "tasks.environment": ("Task",),
    "tasks.function": ("FunctionTask",),
    "views.figures.plot": ("plot",),
    "views.replay.replay": ("Replay", "replay"),
}
_HOME_OF = {name: home for home, found in _HOMES.items() for name in found}

__all__ = [  # noqa: PLE0604 - the table above is the list
    *_HOME_OF,
    *_MODULES,
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"distes.{_MODULES[name]}")
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"distes.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'distes' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)


if "IPython" in sys.modules:  # maybe a notebook: it shows runs and results
    importlib.import_module("distes.views.formatters").register_formatters()
