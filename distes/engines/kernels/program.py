"""Compiling a kernel with an actor, once per machine.

The text of `episode_loop` becomes a module of its own for each pair, in a folder
of the user's cache that is named after everything that went into it; numba keeps the machine
code beside it. A changed kernel, another numba or Python makes another folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np
from filelock import FileLock
from llvmlite import binding

from distes.engines.kernels import random, rollout_text, sealing
from distes.engines.kernels.jit import forget, jit, keep_no_more, named_apart
from distes.engines.kernels.kernel import Actor, Kernel
from distes.engines.kernels.random import ENVIRONMENT_WORDS
from distes.engines.kernels.recipe import Recipe

KERNEL_FUNCTIONS = ("reset", "observe", "step", "show", "inform")

NUMBA_SETTINGS = ("OPT", "BOUNDSCHECK", "LOOP_VECTORIZE", "SLP_VECTORIZE", "ENABLE_AVX")
"""Settings of numba that make other machine code; a processor is marked apart."""

MARK = "compiled-"


@dataclass(frozen=True, eq=False)
class Program:
    """Compiled functions; see `distes.engines.kernels.episode_loop`.

    Attributes:
        begin: resets episodes.
        run: runs them.
    """

    begin: Callable[..., None]
    run: Callable[..., None]


@dataclass(frozen=True)
class _Pair:
    """A kernel and an actor as they are now: equal where their digests are.

    Attributes:
        digest: of all that machine code is made of.
        source: the module's text; None where nothing may be kept.
        names: what the module defines: the functions of both, and whether actors sample.
        helpers: functions of the user's that numba compiled, callees first.
        unknown: values whose identity the digest depends on.
    """

    digest: str
    source: str | None = field(compare=False)
    names: dict[str, Any] = field(compare=False)
    helpers: tuple[Any, ...] = field(compare=False)
    unknown: tuple[Any, ...] = field(compare=False)


def program(kernel: type[Kernel], actor: Actor) -> Program:
    """Compile a pair, or load what this machine has compiled before.

    Args:
        kernel: of the environment.
        actor: of the policy.
    """
    pair = _pair(kernel, actor)
    return _program(pair, _folder(pair))


def compiled_before(kernel: type[Kernel], actor: Actor) -> bool:
    """Whether this machine need not compile a pair."""
    folder = place(kernel, actor)
    return folder is not None and (folder / _mark()).exists()


def place(kernel: type[Kernel], actor: Actor) -> Path | None:
    """Where a pair's machine code lies; None where nothing can be kept."""
    return _folder(_pair(kernel, actor))


def _pair(kernel: type[Kernel], actor: Actor) -> _Pair:
    functions = {name: getattr(kernel, name) for name in KERNEL_FUNCTIONS}
    functions |= {"choose": actor.make_choose(actor.sizes), "decode": actor.decode}
    recipe = Recipe()
    for name, function in functions.items():
        recipe.add(name, function)
    for function in (random.seed_environment, random.seed_policy):
        recipe.add(function.__name__, function)
    source = _source(kernel, actor)
    versions = (numba.__version__, np.__version__, platform.python_version())
    settings = [getattr(numba.config, name, None) for name in NUMBA_SETTINGS]
    made_of = [source, recipe.text, repr((versions, settings, actor.samples))]
    return _Pair(
        hashlib.sha256("\n".join(made_of).encode()).hexdigest(),
        source if _found(kernel) and not recipe.unknown and named_apart() else None,
        {**functions, "SAMPLES": actor.samples},
        tuple(recipe.helpers),
        tuple(recipe.unknown),
    )


def _source(kernel: type[Kernel], actor: Actor) -> str:
    """The text of a pair's module."""
    choosing, decode = actor.make_choose, actor.decode
    lines = [
        "from distes.engines.kernels.jit import jit",
        "import importlib",
        f"Kernel = importlib.import_module({kernel.__module__!r}).{kernel.__qualname__}",
        f"from {_module(choosing)} import {choosing.__name__} as choosing",
        f"from {_module(decode)} import {decode.__name__} as decode",
        *(f"{name} = jit(Kernel.{name})" for name in KERNEL_FUNCTIONS),
        f"choose = choosing({actor.sizes!r})",
        f"SAMPLES = {actor.samples!r}",
    ]
    return "\n".join([rollout_text.head(), *lines, "", "", rollout_text.body(cached=True)])


def _found(kernel: type[Kernel]) -> bool:
    """Whether a module can import a kernel by its name."""
    found: Any = sys.modules.get(kernel.__module__)
    for name in kernel.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is kernel and kernel.__module__ != "__main__"


@lru_cache(maxsize=32)
def _program(pair: _Pair, folder: Path | None) -> Program:
    if folder is None or pair.source is None:
        return _uncached(pair)
    try:
        if not os.access(folder, os.W_OK):
            return _borrowed(pair, folder)
        with FileLock(folder / "lock"):
            source = folder / "rollout.py"
            if not source.exists() or source.read_bytes() != pair.source.encode():
                sealing.write(source, pair.source)
            return _kept(pair, folder)
    except (OSError, RuntimeError):  # a full disk, no locks, nowhere for numba to write
        return _uncached(pair)


def _uncached(pair: _Pair) -> Program:
    """Compile for this process alone: of a script's own kernel, or without a cache."""
    module = ModuleType("distes_rollout")
    names = vars(module)
    names.update(pair.names)
    names.update({name: jit(pair.names[name]) for name in KERNEL_FUNCTIONS})
    text = "\n".join([rollout_text.head(), rollout_text.body(cached=False)])
    exec(compile(text, "<rollout>", "exec"), names)  # noqa: S102 - the project's own text
    forget(pair.helpers)
    return _warm(module)


def _kept(pair: _Pair, folder: Path) -> Program:
    """Load what the cache has, or compile it; anew, if what it has is damaged."""
    module: Any = _loaded(folder)
    code, mark = _code_of(module), folder / _mark()
    intact = sealing.intact(code)
    if intact and mark.exists():
        made = _warm(module)
        if module.begin.stats.cache_misses or module.run.stats.cache_misses:
            mark.unlink()  # numba takes it for another's, as it does of a copy with another date
        return made
    if not intact:  # else it is another processor's, which may share it
        sealing.clear(code)
        for each in folder.glob(f"{MARK}*"):
            each.unlink()
    forget(pair.helpers)
    made = _warm(module)
    if sealing.seal(code):
        mark.touch()
    return made


def _borrowed(pair: _Pair, folder: Path) -> Program:
    """Load what may only be read, from a copy: numba looks where it could write."""
    with tempfile.TemporaryDirectory(prefix="distes-") as scratch:
        # Where numba's files are elsewhere, they are found by the source's place.
        copy = Path(scratch) / folder.name
        module = _loaded(folder if numba.config.CACHE_DIR else shutil.copytree(folder, copy))
        return _warm(module) if sealing.intact(_code_of(module)) else _uncached(pair)


def _loaded(folder: Path) -> ModuleType:
    name = f"distes_rollout_{folder.name}"
    spec = importlib.util.spec_from_file_location(name, folder / "rollout.py")
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - it is a .py file
    module = importlib.util.module_from_spec(spec)
    # numba looks its functions' module up by name when it loads their machine code.
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def _code_of(module: Any) -> Path:
    """Where numba keeps a module's machine code."""
    return Path(module.run.stats.cache_path)


def _warm(module: Any) -> Program:
    """Compile by running no episode at all."""
    none = np.zeros((0, 0))
    seeds, flags = np.zeros(0, np.int64), np.zeros(0, bool)
    words = np.zeros((0, ENVIRONMENT_WORDS), np.uint64)
    numbers = np.zeros(0)
    module.begin(seeds, none, numbers, none, words, none, none)
    module.run(
        *(none, words, none, seeds, none, seeds, numbers, numbers, none, none, none, 0),
        *(np.zeros(3, np.int64), numbers, seeds.copy(), flags, none, none, seeds),
        *(none, none, numbers),
    )
    for function in (module.begin, module.run):
        keep_no_more(function)  # of arrays of another kind: what is sealed stays as it is
    return Program(module.begin, module.run)


def _folder(pair: _Pair) -> Path | None:
    """Where a pair's machine code lies; None where nothing can be kept."""
    if pair.source is None:
        return None
    try:
        given = Path(os.environ.get("XDG_CACHE_HOME", ""))
        base = given if given.is_absolute() else Path.home() / ".cache"
        folder = base / "distes" / "kernels" / pair.digest[:16]
        for each in (folder.parent.parent, folder.parent, folder):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _safe(each):
                return None
        usable = os.access(folder, os.W_OK) or (folder / _mark()).exists()
    except (OSError, RuntimeError):  # nowhere to write, or nobody's home
        return None
    return folder if usable else None


def _safe(folder: Path) -> bool:
    """Whether nobody else, but root, can write a folder: what lies in it is run."""
    status = folder.stat()
    return status.st_uid in (os.getuid(), 0) and not status.st_mode & 0o022


def _module(function: Callable[..., Any]) -> str:
    return getattr(function, "py_func", function).__module__


def _mark() -> str:
    """Name of the file by which a folder has code for this processor, as numba sees it."""
    config, features = numba.config, binding.get_host_cpu_features().flatten()
    host = (binding.get_host_cpu_name(), features)
    seen = (*host, config.CPU_NAME, config.CPU_FEATURES, config.CACHE_DIR)
    return f"{MARK}{hashlib.sha256(repr(seen).encode()).hexdigest()[:12]}"
