"""What machine code is made of, as text: equal texts make equal machine code.

Functions are described as they lie in memory, with all that numba takes from around them:
globals, closures, defaults, functions that they call. Source files would say less: they may
have been edited since, and a value may come from anywhere.
"""

from __future__ import annotations

import builtins
import dis
import enum
import hashlib
import sys
from collections.abc import Iterator
from functools import lru_cache
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import numba
import numpy as np
from numba.extending import is_jitted

from distes.engines.kernels.jit import eager

LIBRARIES = ("builtins", "cmath", "_functools", "math", "numba", "numpy", "_operator")
"""Modules whose versions are known: a name says what it stands for."""

PLAIN = (type(None), type(Ellipsis), bool, int, float, complex, str, bytes, range)

ABSENT = object()
"""Stands for what code reads and nothing gives: numba refuses it."""

GLOBAL, CELL = "global", "cell"


class Recipe:
    """Describes functions, one after the other.

    Attributes:
        helpers: functions compiled by numba that they call, callees first; not this
            project's own, whose globals never change.
        unknown: values that another process could not recognise. They stand in the text by
            their identity, which holds as long as they are kept.
    """

    def __init__(self) -> None:
        self.helpers: list[Any] = []
        self.unknown: list[Any] = []
        self._lines: list[str] = []
        self._numbers: dict[FunctionType, int] = {}

    @property
    def text(self) -> str:
        """All that was added."""
        return "\n".join(self._lines)

    def add(self, name: str, function: Any) -> None:
        """Add a function, compiled by numba or to be."""
        plain = isinstance(function, FunctionType)
        told = self._function(function) if plain else self._value(function)
        self._lines.append(f"{name} is {told}")

    def _value(self, value: Any) -> str:
        """Describe a value, if it can be told from its likes."""
        try:
            told = self._known(value)
        except Exception:  # noqa: BLE001 - any object may be met, and answer as it likes
            told = None
        if told is None:
            self.unknown.append(value)
            return f"unknown {id(value)}"
        return told

    def _known(self, value: Any) -> str | None:
        kind = type(value)
        if value is ABSENT:
            return "absent"
        if kind in PLAIN:
            return f"{kind.__name__} {value!r}"
        if isinstance(value, enum.Enum):
            return f"{_named(kind)}.{value.name} {self._value(value.value)}"
        if isinstance(value, enum.EnumMeta):
            members: dict[str, enum.Enum] = dict(value.__members__)
            return f"{_named(value)} {[(name, self._value(members[name])) for name in members]}"
        if isinstance(value, np.generic | np.ndarray) and not value.dtype.hasobject:
            layout = (value.dtype.descr, value.shape, value.strides)
            return f"array {layout} {hashlib.sha256(value.tobytes()).hexdigest()}"
        if isinstance(value, tuple):
            fields = getattr(kind, "_fields", "")
            return f"{_named(kind)} {fields} ({', '.join(map(self._value, value))})"
        if isinstance(value, set | frozenset):
            return f"{kind.__name__} {sorted(map(self._value, value))}"
        if isinstance(value, slice):
            return f"slice {[self._value(each) for each in (value.start, value.stop, value.step)]}"
        if isinstance(value, CodeType):
            return self._code(value)
        if isinstance(value, np.dtype | numba.types.Type):
            return f"type {value!r}"
        if is_jitted(value):
            return self._compiled(value)
        if isinstance(value, type) and issubclass(value, tuple) and hasattr(value, "_fields"):
            return f"{_named(value)} {value._fields}"
        if isinstance(value, type) and issubclass(value, BaseException):
            return _named(value)
        return _library(value)

    def _compiled(self, function: Any) -> str:
        given = {**function.targetoptions, **function.locals}
        options = [f"{name}={self._value(given[name])}" for name in sorted(given)]
        signatures = list(map(str, function.signatures)) if eager(function) else []
        told = f"compiled {options} {signatures} {self._function(function.py_func)}"
        ours = str(function.py_func.__module__).startswith("distes.")
        if not ours and not any(each is function for each in self.helpers):
            self.helpers.append(function)
        return told

    def _function(self, function: FunctionType) -> str:
        """Describe a function where it is met first; then its number says which it is."""
        if function in self._numbers:
            return f"function {self._numbers[function]}"
        number = self._numbers[function] = len(self._numbers)
        code = function.__code__
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        lines = [self._code(code)]
        lines += [self._value(each) for each in function.__defaults__ or ()]
        for name, value in sorted((function.__kwdefaults__ or {}).items()):
            lines.append(f"{name}={self._value(value)}")
        for kind, name, *attributes in dict.fromkeys(_reads(code)):
            if kind == GLOBAL:
                value = function.__globals__.get(name, getattr(builtins, name, ABSENT))
            elif name in cells:
                value = _content(cells[name])
            else:  # of the function itself, for one within it
                continue
            while isinstance(value, ModuleType) and attributes and _library(value) is None:
                value = getattr(value, attributes.pop(0), ABSENT)
            lines.append(f"{name} is {self._value(value)}")
        self._lines.append(f"function {number}:\n" + "\n".join(lines))
        return f"function {number}"

    def _code(self, code: CodeType) -> str:
        counts = (code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount)
        names = (code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        constants = [self._value(each) for each in code.co_consts]
        text = f"{code.co_code.hex()} {code.co_exceptiontable.hex()}"
        return f"{counts} {code.co_flags} {names} {text} {constants}"


@lru_cache(maxsize=1024)
def _reads(code: CodeType) -> tuple[tuple[str, ...], ...]:
    """Names that code reads from around it, each with the attributes it takes of it."""
    return tuple(_reading(code))


def _reading(code: CodeType) -> Iterator[tuple[str, ...]]:
    chain: tuple[str, ...] = ()
    for step in dis.get_instructions(code):
        if chain and step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            chain += (str(step.argval),)
            continue
        if step.opname in ("EXTENDED_ARG", "CACHE", "PUSH_NULL"):
            continue
        if chain:
            yield chain
        chain = ()
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            chain = (GLOBAL, str(step.argval))
        elif step.opname.startswith("LOAD_") and "DEREF" in step.opname:
            chain = (CELL, str(step.argval))
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _reads(inner)


def _library(value: Any) -> str | None:
    """Name of a module, function or type that is a library's own; None if it is not."""
    if isinstance(value, ModuleType):
        module, name, found = value.__name__, "", sys.modules.get(value.__name__)
    elif isinstance(value, np.ufunc):
        module, name, found = "numpy", value.__name__, getattr(np, value.__name__, None)
    else:
        module = getattr(value, "__module__", None) or ""
        name = getattr(value, "__qualname__", None) or ""
        found = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
    if found is not value or module.partition(".")[0] not in LIBRARIES:
        return None
    return f"{module}.{name}"


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing yet
        return ABSENT


def _named(value: type) -> str:
    return f"{value.__module__}.{value.__qualname__}"
