"""Finding strategies, policies and engines by name: a file in the folder is the entry.

``cem`` is the class that `distes.strategies.cem` defines; ``package.module:Class`` is a
user's own. Adding one needs no second edit.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import TypeVar

from distes.errors import UsageError, unknown

T = TypeVar("T")


def names(folder: str, base: type) -> list[str]:
    """List the names that `find` accepts within ``distes.<folder>``."""
    package = importlib.import_module(f"distes.{folder}")
    return [
        module.name
        for module in pkgutil.iter_modules(package.__path__)
        if _defined(importlib.import_module(f"distes.{folder}.{module.name}"), base)
    ]


def find(folder: str, name: str, base: type[T]) -> type[T]:
    """Find a subclass of ``base`` by its file's name, or as ``package.module:Class``.

    Args:
        folder: the package below distes that is searched.
        name: as the user gave it.
        base: what the class must derive from.

    Raises:
        UsageError: there is no such name, or it names something else.
    """
    kind = base.__name__.lower().removesuffix("spec")
    if ":" in name:
        return _load(kind, name, base)
    module_name = name.replace("-", "_").lower()
    known = names(folder, base)
    if module_name not in known:
        raise unknown(kind, name, known, at_most=len(known))
    return _defined(importlib.import_module(f"distes.{folder}.{module_name}"), base)[0]


def name_of(folder: str, cls: type) -> str:
    """Give the name under which `find` returns the class."""
    prefix = f"distes.{folder}."
    if cls.__module__.startswith(prefix) and getattr(cls, "listed", True):
        return cls.__module__.removeprefix(prefix)
    return f"{cls.__module__}:{cls.__qualname__}"


def _load(kind: str, name: str, base: type[T]) -> type[T]:
    module_name, _, class_name = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # the user's own module is there, but something it imports is not
        raise UsageError(f"{kind} '{name}': there is no module '{error.name}'") from None
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise UsageError(
            f"{kind} '{name}': '{class_name}' in {module_name} is not a subclass of "
            f"{base.__module__}.{base.__name__}"
        )
    return found


def _defined(module: object, base: type[T]) -> list[type[T]]:
    """List the public concrete subclasses of ``base`` that a module defines itself.

    A class with ``listed = False`` is left out: an option of a run, not a choice by name.
    """
    return [
        member
        for name, member in vars(module).items()
        if inspect.isclass(member)
        and issubclass(member, base)
        and not inspect.isabstract(member)
        and getattr(member, "listed", True)
        and member.__module__ == module.__name__  # type: ignore[attr-defined]
        and not name.startswith("_")
    ]
