"""What a program is made of: a kernel's and an actor's functions, and all that these know."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np
from numba.extending import is_jitted

from distes.engines.kernels.kernel import KERNEL_FUNCTIONS, Actor, Kernel

VERSIONED = {"numpy", "numba", *sys.stdlib_module_names}
"""Packages of whose functions a program's file tells the version."""


class Ingredients(NamedTuple):
    """Equal where programs are: may be hashed."""

    kernel: tuple[Callable[..., Any], ...]  # as in `KERNEL_FUNCTIONS`
    actor: tuple[Callable[..., Any], ...]  # `make_choose` and `decode`
    sizes: tuple[int, ...]  # of the actor
    samples: bool  # whether the actor draws its actions
    values: tuple[tuple[str, Any], ...]  # names that functions look up, and what they found
    helpers: tuple[FunctionType, ...]  # that are called by name


def read_ingredients(kernel: type[Kernel], actor: Actor) -> Ingredients:
    """List what a program is made of.

    numba takes what functions know by name as it is when it compiles, wherever it is from:
    numbers, and functions that are called, which know more in turn.
    """
    simulating = tuple(getattr(kernel, name) for name in KERNEL_FUNCTIONS)
    acting = (actor.make_choose, actor.decode)
    reached: list[Any] = [getattr(each, "py_func", each) for each in (*simulating, *acting)]
    own = len(reached)
    values: list[tuple[str, Any]] = []
    for function in reached:  # grows meanwhile
        code = function.__code__
        # Of two definitions under one name each is another.
        consts = tuple(each for each in code.co_consts if not isinstance(each, CodeType))
        values.append((function.__qualname__, repr((code.co_code, consts, code.co_names))))
        names = _list_names(code)
        for name in names:
            known = function.__globals__.get(name)
            inside = isinstance(known, ModuleType)
            for value in [getattr(known, each, None) for each in names] if inside else [known]:
                if is_jitted(value):
                    values.append((name, value))
                called = getattr(value, "py_func", value)
                if isinstance(called, FunctionType):
                    new = called not in reached and called.__module__.split(".")[0] not in VERSIONED
                    reached += [called] if new else []
                elif isinstance(value, np.ndarray):
                    values.append((name, (str(value.dtype), value.shape, value.tobytes())))
                elif isinstance(value, int | float | np.generic | tuple):
                    values.append((name, repr(value)))
    helpers = tuple(reached[own:])
    return Ingredients(simulating, acting, actor.sizes, actor.samples, tuple(values), helpers)


def _list_names(code: CodeType) -> list[str]:
    """Names that a function, or one within it, looks up."""
    within = [each for each in code.co_consts if isinstance(each, CodeType)]
    return [*code.co_names, *(name for each in within for name in _list_names(each))]
