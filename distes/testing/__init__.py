"""Conformance suites for strategies, policies, environments and kernels of your own.

Names are loaded when they are first used, like those of `distes` itself.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distes.tasks.purity import PurityReport as PurityReport
    from distes.tasks.purity import assert_pure as assert_pure
    from distes.testing.kernels import KernelReport as KernelReport
    from distes.testing.kernels import assert_kernel_matches as assert_kernel_matches
    from distes.testing.policies import PolicyConformance as PolicyConformance
    from distes.testing.strategies import StrategyConformance as StrategyConformance

_HOMES = {
    "KernelReport": "testing.kernels",
    "PolicyConformance": "testing.policies",
    "PurityReport": "tasks.purity",
    "StrategyConformance": "testing.strategies",
    "assert_kernel_matches": "testing.kernels",
    "assert_pure": "tasks.purity",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'distes.testing' has no attribute '{name}'")
    return getattr(importlib.import_module(f"distes.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
