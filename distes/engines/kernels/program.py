"""The program of a kernel and an actor: compiled once a process, or once a machine."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from distes.engines.kernels import cache
from distes.engines.kernels.episode_loop import Program, compile_program
from distes.engines.kernels.ingredients import Ingredients, read_ingredients
from distes.engines.kernels.jit import jit
from distes.engines.kernels.kernel import KERNEL_FUNCTIONS, Actor, Kernel


def load_program(kernel: type[Kernel], actor: Actor) -> Program:
    """Compile a program, or load what this process or this machine has compiled before.

    Args:
        kernel: of the environment.
        actor: of the policy.
    """
    made_of = read_ingredients(kernel, actor)
    return _load(made_of, cache.find_file(made_of))


@lru_cache(maxsize=32)
def _load(made_of: Ingredients, file: Path | None) -> Program:
    make_choose, decode = made_of.actor
    names: dict[str, Any] = dict(zip(KERNEL_FUNCTIONS, map(jit, made_of.kernel), strict=True))
    names |= {"choose": make_choose(made_of.sizes), "decode": decode, "SAMPLES": made_of.samples}
    with suppress(OSError, RuntimeError):  # a full disk, no locks
        if file is not None:
            return cache.load_kept(names, file)
    return compile_program(names, cache=False)
