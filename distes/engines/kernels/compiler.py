"""A process that compiles a program into this machine's cache, while this one runs episodes."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distes.engines.kernels.kernel import Actor, Kernel

_COMPILE = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
pair = pickle.load(sys.stdin.buffer)
from distes.engines.kernels.program import load_program
load_program(*pair)
"""


def start_compiler(kernel: type[Kernel], actor: Actor) -> subprocess.Popen[bytes] | None:
    """Start a process that compiles a program into the cache.

    No signal of this process's group reaches it, and it goes on when this process ends: so a
    machine compiles once, however short the runs are that find nothing compiled.

    Args:
        kernel: of the environment.
        actor: of the policy.

    Returns:
        None where the cache has the program, or cannot keep it, or no process can be started.
    """
    from distes.engines.kernels import cache, ingredients

    file = cache.find_file(ingredients.read_ingredients(kernel, actor))
    if file is None or file.exists():
        return None
    try:
        path = [str(Path(each).absolute()) for each in sys.path]
        given = pickle.dumps(path) + pickle.dumps((kernel, actor))
        process = subprocess.Popen(  # noqa: S603 - Python itself
            [sys.executable, "-P", "-c", _COMPILE],  # -P: nothing of the working directory's
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",  # it holds no folder of the run's, which may be deleted meanwhile
            start_new_session=True,
        )
    except (OSError, AttributeError, pickle.PicklingError):  # also a class in a function
        return None
    # It takes what it is given when it is up, and its end is noticed if nobody asks any more.
    threading.Thread(target=process.communicate, args=(given,), daemon=True).start()
    return process
