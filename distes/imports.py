"""Doing something as soon as a module is imported by whoever needs it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # at run time this module is to cost nothing
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def once_imported(name: str, then: Callable[[], object]) -> None:
    """Call ``then`` right after module ``name`` was imported; at once if it has been.

    So a package can add to another one without waiting for it to load.
    """
    if name in sys.modules:
        then()
    else:
        sys.meta_path.insert(0, _Watch(name, then))


class _Watch:
    """A finder that notices that a module is to be imported, and leaves it to the others."""

    def __init__(self, name: str, then: Callable[[], object]) -> None:
        self._name = name
        self._then = then

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the module as if this finder were not there, and have its loader report."""
        if fullname != self._name:
            return None
        from importlib.util import find_spec

        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        loader, execute = spec.loader, spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module  # the loader's own again
            execute(module)
            self._then()

        loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
