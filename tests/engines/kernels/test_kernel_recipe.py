"""What machine code is made of: told from memory, the same in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("numba")

from numba import njit
from numba.extending import overload

from distes.engines.kernels.jit import forget
from distes.engines.kernels.recipe import Recipe

HEAD = """
import enum, functools, math
from collections import namedtuple
import numba
import numpy as np
from numba import njit
import settings
from settings import *
"""


def told(code: str, settings: str = "", name: str = "step") -> Recipe:
    """The recipe of a function in a module's text, beside another module's."""
    other = ModuleType("settings")
    exec("import enum, math\nimport numpy as np\nimport numba\n" + settings, vars(other))  # noqa: S102
    sys.modules["settings"] = other
    try:
        module = ModuleType("kernels_own")
        exec(HEAD + code, vars(module))  # noqa: S102
        recipe = Recipe()
        recipe.add(name, vars(module)[name])
    finally:
        del sys.modules["settings"]
    return recipe


STEP = "def step(x):\n    return worth(x)\n"

CASES = {
    "global": ("def step(x):\n    return x * GAIN\n", "GAIN = 0.5", "GAIN = 3.0"),
    "type of a number": ("def step(x):\n    return x * GAIN\n", "GAIN = 1.0", "GAIN = 1"),
    "sign of zero": ("def step(x):\n    return x / GAIN\n", "GAIN = 0.0", "GAIN = -0.0"),
    "attribute": ("def step(x):\n    return x * settings.GAIN\n", "GAIN = 0.5", "GAIN = 3.0"),
    "callee": (
        "@njit\ndef worth(x):\n    return x * GAIN\n" + STEP,
        "GAIN = 0.5",
        "GAIN = 3.0",
    ),
    "default": (
        "@njit\ndef worth(x, gain=GAIN):\n    return x * gain\n" + STEP,
        "GAIN = 0.5",
        "GAIN = 3.0",
    ),
    "keyword": ("def step(x, *, gain=GAIN):\n    return x * gain\n", "GAIN = 1", "GAIN = 2"),
    "code within": ("def step(x):\n    return [y * GAIN for y in x]\n", "GAIN = 1", "GAIN = 2"),
    "order of cells": (
        "def made(left, right):\n"
        "    @njit\n    def worth(x):\n        return left * x - right\n    return worth\n"
        "worth = made(*BOTH)\n" + STEP,
        "BOTH = 1, 2",
        "BOTH = 2, 1",
    ),
    "module in a cell": (
        "def made(where):\n"
        "    @njit\n    def worth(x):\n        return x * where.GAIN\n    return worth\n"
        "worth = made(settings)\n" + STEP,
        "GAIN = 1",
        "GAIN = 2",
    ),
    "which function": (
        "@njit\ndef one(x):\n    return x\n@njit\ndef two(x):\n    return 2 * x\n"
        "worth = (one, two)[WHICH]\n" + STEP,
        "WHICH = 0",
        "WHICH = 1",
    ),
    "library's function": (
        "def step(x):\n    return ROUND(x)\n",
        "ROUND = math.floor",
        "ROUND = math.ceil",
    ),
    "ufunc": ("def step(x):\n    return ROUND(x)\n", "ROUND = np.floor", "ROUND = np.ceil"),
    "long array": (
        "def step(x):\n    return x * T[0]\n",
        "T = np.zeros(5000)",
        "T = np.zeros(5000); T[2500] = 1.0",
    ),
    "array in a tuple": (
        "def step(x):\n    return x * T[0][0]\n",
        "T = np.zeros(5000),",
        "T = np.zeros(5000), ; T[0][2500] = 1.0",
    ),
    "layout": (
        "def step(x):\n    return T @ x\n",
        "T = np.eye(3)",
        "T = np.asfortranarray(np.eye(3))",
    ),
    "type of an array": (
        "def step(x):\n    return T @ x\n",
        "T = np.eye(3)",
        "T = np.eye(3, dtype='f4')",
    ),
    "member": (
        "def step(x):\n    return x if MODE is Mode.FAST else -x\n",
        "class Mode(enum.Enum):\n    FAST = 1\n    SLOW = 2\nMODE = Mode.FAST",
        "class Mode(enum.Enum):\n    FAST = 1\n    SLOW = 2\nMODE = Mode.SLOW",
    ),
    "value of a member": (
        "def step(x):\n    return x * Mode.FAST.value\n",
        "class Mode(enum.Enum):\n    FAST = 1",
        "class Mode(enum.Enum):\n    FAST = 2",
    ),
    "numba's type": ("def step(x):\n    return T(x)\n", "T = numba.float64", "T = numba.float32"),
    "numpy's type": ("def step(x):\n    return T(x)\n", "T = np.float64", "T = np.float32"),
    "fields": (
        "P = namedtuple('P', FIELDS)\ndef step(x):\n    return P(x, x).a\n",
        "FIELDS = 'a b'",
        "FIELDS = 'b a'",
    ),
    "fields of a tuple": (
        "P = namedtuple('P', FIELDS)\nBOTH = P(1.0, 2.0)\ndef step(x):\n    return BOTH.a\n",
        "FIELDS = 'a b'",
        "FIELDS = 'b a'",
    ),
    "signatures": (
        "@njit(SIGNATURE)\ndef worth(x):\n    return x\n" + STEP,
        "SIGNATURE = 'float64(float64)'",
        "SIGNATURE = 'float64(float32)'",
    ),
    "extent of a try": (
        "exec(TEXT)\n",
        "TEXT = 'def step(x):\\n try:\\n  y=f(x); g(x)\\n except: return 0.\\n return y'",
        "TEXT = 'def step(x):\\n try:\\n  y=f(x)\\n except: return 0.\\n else: g(x)\\n return y'",
    ),
    "slice": ("def step(x):\n    return x[PART]\n", "PART = slice(1, 3)", "PART = slice(1, 4)"),
    "exception": (
        "def step(x):\n    raise Fault('no')\n",
        "class Fault(ValueError): pass",
        "class Other(ValueError): pass\nFault = Other",
    ),
    "options": (
        "@njit(error_model=MODEL)\ndef worth(x):\n    return 1.0 / x\n" + STEP,
        "MODEL = 'numpy'",
        "MODEL = 'python'",
    ),
    "constant": (
        "exec(TEXT)\n",
        "TEXT = 'def step(x):\\n    return x * 2.0'",
        "TEXT = 'def step(x):\\n    return x * 3.0'",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_change_is_told(case: str) -> None:
    """Made of other things, it is another; made anew of the same, it is the same."""
    code, before, after = CASES[case]
    first, again, changed = (told(code, settings) for settings in (before, before, after))
    assert first.unknown == again.unknown == changed.unknown == []
    assert first.text == again.text
    assert first.text != changed.text


class Strange:
    """Answers whatever is asked of it with a fault."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


UNKNOWN = {
    "dictionary": "T = {}\ndef step(x):\n    return T[x]\n",
    "partial": "T = functools.partial(max, 0.0)\ndef step(x):\n    return T(x)\n",
    "vectorized": "@numba.vectorize\ndef T(x):\n    return x\ndef step(x):\n    return T(x)\n",
    "plain function": "def T(x):\n    return x\ndef step(x):\n    return T(x)\n",
    "module as a value": "def step(x):\n    T = settings\n    return T.GAIN\n",
    "array of objects": "T = np.array([None])\ndef step(x):\n    return T\n",
    "method of an object": "T = np.random.random\ndef step(x):\n    return T()\n",
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_cannot_be_told_is_said(case: str) -> None:
    """Nothing is kept then: another process could not see whether it is the same."""
    assert len(told(UNKNOWN[case], "GAIN = 1.0").unknown) == 1


def test_a_function_given_to_numba_by_overload_is_unknown() -> None:
    """Its code lies elsewhere."""

    def worth(x: Any) -> Any:
        raise NotImplementedError

    @overload(worth)
    def _worth(x: Any) -> Any:
        return lambda x: 2.0 * x

    @njit
    def step(x: Any) -> Any:
        return worth(x)

    recipe = Recipe()
    recipe.add("step", step)
    assert recipe.unknown == [worth]


def test_whatever_is_met_is_no_fault() -> None:
    def empty(full: bool) -> Any:
        @njit
        def step(x: Any) -> Any:
            return x * later

        if full:
            later = 1.0
        return step

    recipe = Recipe()
    recipe.add("step", empty(full=False))
    assert recipe.unknown == []
    strange = Strange()
    names: dict[str, Any] = {"T": strange}  # no __name__, as in other text that is run
    exec("def step(x):\n    return T\n", names)  # noqa: S102
    recipe = Recipe()
    recipe.add("step", njit(names["step"]))
    assert recipe.unknown == [strange]


def test_options_that_are_sets_are_told_in_order() -> None:
    code = "@njit(fastmath={FLAGS})\ndef worth(x):\n    return x\n" + STEP
    flags = ["'nnan', 'ninf', 'nsz'", "'nsz', 'nnan', 'ninf'"]
    assert len({told(code.replace("FLAGS", each)).text for each in flags}) == 1


def test_helpers_are_compiled_anew_with_those_that_they_call() -> None:
    """Also where two call each other, and where one function was compiled twice."""
    code = """
@njit
def even(x):
    return GAIN if x == 0 else odd(x - 1)
@njit
def odd(x):
    return -GAIN if x == 0 else even(x - 1)
def base(x):
    return GAIN
once, twice = njit(base), njit(error_model="numpy")(base)
@njit("float64(int64)")
def closed(x):
    return even(x)
@njit
def step(x):
    return even(x) + once(x) + twice(x) + closed(x)
"""
    module = ModuleType("kernels_own")
    names: dict[str, Any] = vars(module)
    names["GAIN"] = 1.0
    sys.modules["kernels_own"] = module
    try:
        exec("from numba import njit\n" + code, names)  # noqa: S102
        assert names["step"](4) == 4.0
        names["GAIN"] = 10.0
        assert names["step"](4) == 4.0
        recipe = Recipe()
        recipe.add("step", names["step"])
        forget(recipe.helpers)
        assert names["step"](4) == 40.0
    finally:
        del sys.modules["kernels_own"]


def test_helpers_come_callees_first() -> None:
    code = """
@njit
def inner(x):
    return x
@njit
def outer(x):
    return inner(x)
def step(x):
    return outer(x) + inner(x)
"""
    assert [each.__name__ for each in told(code).helpers] == ["inner", "outer"]


def test_functions_that_call_each_other() -> None:
    code = """
@njit
def even(x):
    return True if x == 0 else odd(x - 1)
@njit
def odd(x):
    return False if x == 0 else even(x - 1)
def step(x):
    return even(x)
"""
    assert told(code).text == told(code).text


OURS = """
import sys
import numpy
if sys.argv[1] == "early":
    import distes.engines.kernels.environments.pendulum, distes.policies.softmax
    import gymnasium, pandas, ray
from distes.engines.kernels import lookup as kernels
from distes.engines.kernels import program as build
from distes.policies import MLP, Linear
from distes.policies.softmax import Softmax
from distes.tasks.environment import Task
names = ["CartPole-v1", "Acrobot-v1", "MountainCar-v0"]
for name in names if sys.argv[1] == "early" else reversed(names):
    for spec in (Linear(), MLP((3, 2)), Softmax()):
        task = Task(name)
        policy = task.build_policy(spec)
        pair = build._pair(type(kernels.kernel_of(task)), kernels.actor_of(policy))
        assert pair.source is not None
        assert pair.helpers == pair.unknown == ()
        print(name, type(spec).__name__, pair.digest)
"""


def test_every_process_tells_the_same_of_ours() -> None:
    """Whatever was imported before, in whichever order, with whichever hashes of text."""
    found = []
    for order, seed in (("early", "1"), ("late", "2")):
        done = subprocess.run(
            [sys.executable, "-c", OURS, order],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        assert done.returncode == 0, done.stderr
        found.append(sorted(done.stdout.splitlines()))
    assert found[0] == found[1]
    assert len(set(found[0])) == 9
