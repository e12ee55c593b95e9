"""Compiling a kernel with an actor, once per machine.

The text of `distes.kernels.rollout` becomes a module of its own for each pair, in a folder
of the user's cache that is named after everything that went into it; numba keeps the machine
code beside it. A changed kernel, another numba or Python makes another folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numba
import numpy as np
from filelock import FileLock
from llvmlite import binding

from distes.kernels import rollout_text
from distes.kernels.base import Actor, Kernel
from distes.kernels.jit import jit, named_apart
from distes.kernels.random import ENVIRONMENT_WORDS

KERNEL_FUNCTIONS = ("reset", "observe", "step", "show", "inform")


@dataclass(frozen=True, eq=False)
class Program:
    """Compiled functions; see `distes.kernels.rollout`.

    Attributes:
        begin: resets episodes.
        run: runs them.
    """

    begin: Callable[..., None]
    run: Callable[..., None]


def program(kernel: type[Kernel], actor: Actor) -> Program:
    """Compile a pair, or load what this machine has compiled before.

    Args:
        kernel: of the environment.
        actor: of the policy.
    """
    return _program(kernel, actor.choosing, actor.decode, actor.sizes, actor.samples)


def compiled_before(kernel: type[Kernel], actor: Actor) -> bool:
    """Whether this machine need not compile a pair."""
    folder = place(kernel, actor)
    return folder is not None and (folder / _mark()).exists()


def place(kernel: type[Kernel], actor: Actor) -> Path | None:
    """Where a pair's machine code lies; None where nothing can be kept."""
    text = _text(kernel, actor.choosing, actor.decode, actor.sizes, actor.samples)
    if text is None:
        return None
    return _folder(text, kernel, actor.choosing(actor.sizes), actor.decode)


@lru_cache(maxsize=32)
def _program(
    kernel: type[Kernel],
    choosing: Callable[..., Any],
    decode: Callable[..., Any],
    sizes: tuple[int, ...],
    samples: bool,
) -> Program:
    text = _text(kernel, choosing, decode, sizes, samples)
    folder = None if text is None else _folder(text, kernel, choosing(sizes), decode)
    if text is None or folder is None:
        return _uncached(kernel, choosing, decode, sizes, samples)
    source = folder / "rollout.py"
    try:
        if not os.access(folder, os.W_OK):
            return _borrowed(folder)
        with FileLock(folder / "lock"):
            if not source.exists() or source.read_bytes() != text.encode():
                partial = folder / f"{os.getpid()}.partial"
                partial.write_text(text, encoding="utf-8")
                partial.replace(source)
            made = _kept(source, folder)
            (folder / _mark()).touch()
    except OSError:  # a full disk, or no locks
        return _uncached(kernel, choosing, decode, sizes, samples)
    return made


def _text(
    kernel: type[Kernel],
    choosing: Callable[..., Any],
    decode: Callable[..., Any],
    sizes: tuple[int, ...],
    samples: bool,
) -> str | None:
    """The module's text; None where the kernel cannot be imported by its name.

    None, too, where names of machine code could be another process's.
    """
    found: Any = sys.modules.get(kernel.__module__)
    for name in kernel.__qualname__.split("."):
        found = getattr(found, name, None)
    if kernel.__module__ == "__main__" or found is not kernel or not named_apart():
        return None
    lines = [
        "from distes.kernels.jit import jit",
        "import importlib",
        f"Kernel = importlib.import_module({kernel.__module__!r}).{kernel.__qualname__}",
        f"from {_module(choosing)} import {choosing.__name__} as choosing",
        f"from {_module(decode)} import {decode.__name__} as decode",
        *(f"{name} = jit(Kernel.{name})" for name in KERNEL_FUNCTIONS),
        f"choose = choosing({sizes!r})",
        f"SAMPLES = {samples!r}",
    ]
    return "\n".join([rollout_text.head(), *lines, "", "", rollout_text.body(cached=True)])


def _uncached(
    kernel: type[Kernel],
    choosing: Callable[..., Any],
    decode: Callable[..., Any],
    sizes: tuple[int, ...],
    samples: bool,
) -> Program:
    """Compile for this process alone: of a script's own kernel, or without a cache."""
    module = ModuleType("distes_rollout")
    names = vars(module)
    names.update({name: jit(getattr(kernel, name)) for name in KERNEL_FUNCTIONS})
    names.update(choose=choosing(sizes), decode=decode, SAMPLES=samples)
    text = "\n".join([rollout_text.head(), rollout_text.body(cached=False)])
    exec(compile(text, "<rollout>", "exec"), names)  # noqa: S102 - the project's own text
    return _warm(module)


def _borrowed(folder: Path) -> Program:
    """Load what may only be read, from a copy: numba looks where it could write."""
    if numba.config.CACHE_DIR:  # it looks there, under a name made of the source's place
        return _kept(folder / "rollout.py", folder)
    with tempfile.TemporaryDirectory(prefix="distes-") as scratch:
        copy = shutil.copytree(folder, Path(scratch) / folder.name)
        return _kept(copy / "rollout.py", copy)


def _kept(source: Path, folder: Path) -> Program:
    """Load what the cache has, or compile it; anew, if what it has is damaged."""
    try:
        return _warm(_loaded(source, folder.name))
    except (EOFError, ValueError, pickle.UnpicklingError):
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        return _warm(_loaded(source, folder.name))


def _loaded(source: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"distes_rollout_{name}", source)
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - it is a .py file
    module = importlib.util.module_from_spec(spec)
    # numba looks its functions' module up by name when it loads their machine code.
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


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
    return Program(module.begin, module.run)


def _folder(
    text: str, kernel: type[Kernel], choose: Callable[..., Any], decode: Callable[..., Any]
) -> Path | None:
    """Where a pair's machine code lies; None where nothing can be kept."""
    digest = hashlib.sha256(text.encode())
    for part in (numba.__version__, np.__version__, platform.python_version()):
        digest.update(part.encode())
    files, values = _reached([kernel, choose, decode])
    files |= {f for name in (__name__, jit.__module__) if (f := _file(sys.modules[name]))}
    for file in sorted(files):
        digest.update(Path(file).read_bytes())
    digest.update("\n".join(sorted(values)).encode())
    try:
        given = Path(os.environ.get("XDG_CACHE_HOME", ""))
        base = given if given.is_absolute() else Path.home() / ".cache"
        folder = base / "distes" / "kernels" / digest.hexdigest()[:16]
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


def _reached(parts: list[Any]) -> tuple[set[str], set[str]]:
    """What machine code is made of: source files, and numbers, which may be from elsewhere."""
    files: set[str] = set()
    values: set[str] = set()
    todo: list[Any] = []
    for part in parts:
        if isinstance(part, type):
            todo += [getattr(part, name) for name in KERNEL_FUNCTIONS]
            files |= {f for c in part.__mro__ if (f := _file(sys.modules.get(c.__module__)))}
        else:
            todo.append(part)
    seen: set[int] = set()
    while todo:
        function = getattr(todo[-1], "py_func", todo.pop())
        if id(function) in seen or not isinstance(function, FunctionType):
            continue
        seen.add(id(function))
        files |= {f for f in [_file(sys.modules.get(function.__module__))] if f}
        for name, value in _names(function):
            if isinstance(value, ModuleType):
                files |= {f for f in [_file(value)] if f}
            elif isinstance(value, np.ndarray):
                values.add(f"{name} {value.dtype} {value.shape} {value.tobytes()!r}")
            elif isinstance(value, type):
                files |= {f for f in [_file(sys.modules.get(value.__module__))] if f}
                values |= {f"{name}.{each} {inner!r}" for each, inner in _plain(value)}
            elif isinstance(value, bool | int | float | complex | str | tuple | np.generic):
                values.add(f"{name} {value!r}")
            else:
                todo.append(value)
    return files, values


def _names(function: FunctionType) -> list[tuple[str, Any]]:
    """Names that a function reads beside its own, and what they stand for."""
    names, place = function.__code__.co_names, function.__module__
    found = [(f"{place}.{name}", function.__globals__.get(name)) for name in names]
    modules = [value for _, value in found if isinstance(value, ModuleType)]
    for module in modules:  # grows: a module of a package is reached through the package
        inside = [(f"{module.__name__}.{name}", getattr(module, name, None)) for name in names]
        modules += [v for _, v in inside if isinstance(v, ModuleType) and v not in modules]
        found += inside
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        found.append((f"{place}.{function.__qualname__}.{name}", cell.cell_contents))
    return found


def _plain(cls: type) -> list[tuple[str, Any]]:
    """Numbers of a class, an enumeration's among them."""
    plain = (bool, int, float, str, tuple, np.generic)
    return [(name, value) for name, value in vars(cls).items() if isinstance(value, plain)]


def _file(module: ModuleType | None) -> str | None:
    """A module's source, unless it is a library's whose version is known."""
    name = "" if module is None else module.__name__.partition(".")[0]
    file = getattr(module, "__file__", None)
    if name in ("numpy", "numba") or name in sys.stdlib_module_names or file is None:
        return None
    return str(file)


def _module(function: Callable[..., Any]) -> str:
    return getattr(function, "py_func", function).__module__


def _mark() -> str:
    """Name of the file that says so for this processor, as numba is told to see it."""
    config = numba.config
    seen = (binding.get_host_cpu_name(), config.CPU_NAME, config.CPU_FEATURES, config.CACHE_DIR)
    return f"compiled-{hashlib.sha256(repr(seen).encode()).hexdigest()[:12]}"
