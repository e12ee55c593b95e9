"""Kernels: environments and policies as machine code, for the compiled engine.

`environments/` and `actors/` hold one file each for what the loop engine runs in Python. A
class of one's own brings its own, so that it stays one file: an environment has its `Kernel`
as the class attribute ``kernel``, a built policy has a method ``actor`` that gives its
`Actor`, or None where it has none for its spaces.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator

from distes.errors import UsageError
from distes.policies.base import Policy
from distes.tasks.environment import Task, environment_spec
from distes.tasks.envs import ENVIRONMENTS  # noqa: F401 - registers them

_HERE = __name__.rpartition(".")[0]

INSTALL = "pip install 'distes[compiled]'"

MUJOCO = "gymnasium.envs.mujoco."

OURS = ("gymnasium.envs.classic_control.", MUJOCO, "distes.tasks.envs.")
"""Modules whose environments have kernels in `environments/`."""


def is_numba_installed() -> bool:
    """Whether numba is there, and loads beside this numpy."""
    from distes.engines.kernels import jit

    return jit.numba is not None


def covered_environments() -> list[str]:
    """List registered environments that have a kernel of ours; MuJoCo's where it is there."""
    rooms = OURS if importlib.util.find_spec("mujoco") else tuple({*OURS} - {MUJOCO})
    found = []
    for name, spec in gym.registry.items():
        place = spec.entry_point
        if isinstance(place, str) and place.startswith(rooms) and covers(Task(name)):
            found.append(name)
    return found


def covers(task: Task) -> bool:
    """Whether an environment has a kernel, without loading anything heavy."""
    return _kernel_place(task) is not None


def misfit(task: Task, policy: Policy) -> str | None:
    """Say why kernels cannot run a task with a policy, as the end of a sentence; None if they can.

    Whether numba is there is another question.
    """
    if not covers(task):
        return f"{task.name} has no kernel"
    try:
        kernel = kernel_of(task)
    except UsageError as error:
        return str(error)
    if task.contexts.sampled and not kernel.num_contexts:
        return "its kernel takes no contexts"
    if task.step_limit() is None:
        return "it has no step limit, and machine code cannot be interrupted"
    unknown = [name for name in task.log_info if name not in kernel.info_names]
    if unknown:
        return f"its kernel gives no info '{unknown[0]}'"
    if actor_of(policy) is None:
        return f"its policy {type(policy).__name__} has no kernel for these spaces"
    return None


def ready(task: Task, policy: Policy) -> bool:
    """Whether this machine has compiled a task and policy that fit before."""
    file = _cache_file(task, policy)
    return file is not None and file.exists()


def keeps(task: Task, policy: Policy) -> bool:
    """Whether this machine can keep what it compiles for them."""
    return _cache_file(task, policy) is not None


def _cache_file(task: Task, policy: Policy) -> Path | None:
    from distes.engines.kernels.cache import find_file
    from distes.engines.kernels.ingredients import read_ingredients

    return find_file(read_ingredients(type(kernel_of(task)), actor_of(policy)))


def kernel_of(task: Task) -> Any:
    """Make the kernel of a task that `covers` says yes to.

    Raises:
        UsageError: it does not honour the environment's arguments.
    """
    return make_kernel(kernel_class_of(task), task)


def kernel_class_of(task: Task) -> Any:
    """Find the kernel's class of a task that `covers` says yes to."""
    place = _kernel_place(task)
    assert place is not None  # noqa: S101 - the caller has asked
    return _load(*place) if isinstance(place, tuple) else place


def make_kernel(kernel: type, task: Task) -> Any:
    """Make a kernel with a task's arguments, whichever environment it was written for.

    Raises:
        UsageError: it does not honour them.
    """
    registered = environment_spec(task.env).kwargs if isinstance(task.env, str) else {}
    arguments = {**registered, **task.env_kwargs}
    if arguments.pop("render_mode", None) not in (None, "rgb_array"):
        raise UsageError(f"the kernel of {task.name} draws nothing: leave render_mode out")
    try:
        found = kernel(**arguments)
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it does with what it does not expect
        raise UsageError(
            f"the kernel of {task.name} does not honour env_kwargs {arguments}: {error}"
        ) from None
    constants = found.constants
    plain = isinstance(constants, np.ndarray) and constants.dtype == np.float64
    if not plain or constants.ndim != 1 or not isinstance(getattr(found, "num_states", None), int):
        raise UsageError(
            f"the kernel of {task.name} needs constants, an array (c,) of float64, and num_states, "
            f"a whole number: with env_kwargs {arguments} constants are {constants!r}"
        )
    return found


def actor_of(policy: Policy) -> Any:
    """Make the actor of a policy; None if it has none for its spaces.

    A class has no actor of its parent's, which it may act otherwise than.

    Raises:
        UsageError: its method ``actor`` gives something else.
    """
    own = vars(type(policy)).get("actor")
    if callable(own):
        from distes.engines.kernels.kernel import Actor

        given = own(policy)
        if given is not None and not isinstance(given, Actor):
            raise UsageError(f"{type(policy).__name__}.actor gave {given!r}, which is no Actor")
        return given
    place = type(policy).__module__
    name = place.removeprefix("distes.policies.")
    if name == place or not importlib.util.find_spec(f"{_HERE}.actors.{name}"):
        return None
    module: Any = importlib.import_module(f"{_HERE}.actors.{name}")
    actor = getattr(module, "actor", None)
    return None if actor is None else actor(policy)


def _kernel_place(task: Task) -> tuple[str, str] | type | None:
    """Module and entry point of a kernel of ours, or a user's class."""
    entry: Any = task.env
    if isinstance(entry, str):
        spec = environment_spec(entry)
        entry = None if spec.additional_wrappers else spec.entry_point
        if isinstance(entry, str) and not entry.startswith(OURS):
            entry = load_env_creator(entry)
    if isinstance(entry, type):
        # Not its parent's, whose steps it may have changed; and an attribute may be anything.
        own = vars(entry).get("kernel")
        if isinstance(own, type):
            from distes.engines.kernels.kernel import Kernel

            if issubclass(own, Kernel):
                return own
        entry = f"{entry.__module__}:{entry.__qualname__}"  # whatever name it was reached by
    if not isinstance(entry, str) or not entry.startswith(OURS):
        return None
    name = f"{_HERE}.environments.{entry.partition(':')[0].rpartition('.')[2]}"
    return (name, entry) if importlib.util.find_spec(name) else None


def _load(name: str, entry: str) -> type:
    module = importlib.import_module(name)
    for member in vars(module).values():
        if isinstance(member, type) and getattr(member, "entry_point", None) == entry:
            return member
    raise UsageError(f"{name} defines no kernel with entry_point '{entry}'")
