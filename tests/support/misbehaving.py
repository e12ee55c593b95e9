"""An environment that does one thing wrong in one of its methods; importable by name."""

from __future__ import annotations

import os
import random
import sys
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete, Text


class Odd(BaseException):
    """Of the environment's own, and no `Exception`."""


class Unspeakable(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise ValueError("no words")


RAISED = {
    "ValueError": lambda: ValueError("two\nlines \x1b[31m"),
    "MemoryError": MemoryError,
    "RecursionError": RecursionError,
    "StopIteration": StopIteration,
    "AssertionError": AssertionError,
    "OSError": lambda: OSError(28, "No space left on device"),
    "surrogate": lambda: RuntimeError("\ud800"),
    "unspeakable": Unspeakable,
    "SystemExit": lambda: SystemExit(0),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "BaseException": Odd,
}

ACTS = {
    "chdir": lambda: os.chdir("/"),
    "prints": lambda: sys.stdout.write("\x1b[2J\r" + "x" * 300),
    "warns": lambda: warnings.warn("odd \x1b[31m", stacklevel=1),
    "numpy errors": lambda: np.seterr(all="raise"),
    "seeds": lambda: random.seed(0),
    "environment": lambda: os.environ.pop("HOME", None),
    "recursion": lambda: sys.setrecursionlimit(150),
    "no stdout": lambda: setattr(sys, "stdout", None),
}

GIVEN = {
    "None": None,
    "text": "False",
    "nan": float("nan"),
    "inf": float("inf"),
    "minus inf": -float("inf"),
    "huge": 10**400,
    "complex": 1j,
    "empty": np.zeros(0),
    "two": np.zeros(2),
    "matrix": np.zeros((3, 2)),
    "nans": np.full(2, np.nan),
    "infs": np.full(2, np.inf),
    "float64": np.full(2, 1e300),
    "objects": np.array([None, "x"], dtype=object),
    "list": [0.0, [1.0]],
    "dict": {"a": object()},
    "negative": -3,
    "bytes": b"\xff",
}

SPACES = {
    "None": None,
    "int": 3,
    "text": Text(4),
    "wide": Box(-1.0, 1.0, (2, 3, 4)),
    "empty": Box(-1.0, 1.0, (0,)),
    "nan": Box(-np.inf, np.inf, (2,)),
    "many": Discrete(10**12),
}

SLOTS = ("observation", "reward", "terminated", "truncated", "info")


class Misbehaving(gym.Env[Any, Any]):
    """Two numbers and two actions, five steps; one thing is wrong.

    Args:
        where: ``init``, ``reset``, ``step``, ``close``, a slot of what step or reset gives
            (``step.reward``), or a space.
        what: a key of the tables above.
        call: from which call of the method on.
    """

    def __init__(self, where: str = "", what: str = "", call: int = 0) -> None:
        self.observation_space: Any = Box(-1.0, 1.0, (2,))
        self.action_space: Any = Discrete(2)
        self.where, self.what, self.call = where, what, call
        self.calls: dict[str, int] = {}
        if where in ("observation_space", "action_space"):
            setattr(self, where, SPACES[what])
        self._do("init")

    def _do(self, method: str) -> bool:
        """Misbehave in a method, if it is the one; says whether a value it gives is meant."""
        count = self.calls[method] = self.calls.get(method, -1) + 1
        if count < self.call:
            return False
        if self.where == method and self.what in RAISED:
            raise RAISED[self.what]()
        if self.where == method and self.what in ACTS:
            ACTS[self.what]()
        return self.where.startswith(method)

    def _give(self, method: str, values: tuple[Any, ...]) -> Any:
        if not self._do(method) or self.what not in GIVEN:
            return values
        if self.where == method:
            return GIVEN[self.what]
        slots = SLOTS if method == "step" else ("observation", "info")
        wrong = slots.index(self.where.partition(".")[2])
        return (*values[:wrong], GIVEN[self.what], *values[wrong + 1 :])

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._give("reset", (self._observation(), {}))

    def step(self, action: Any) -> Any:
        self.t += 1
        values = (self._observation(), float(action), self.t >= 5, False, {"t": self.t})
        return self._give("step", values)

    def close(self) -> None:
        self._do("close")

    def _observation(self) -> Any:
        return self.np_random.random(2, dtype=np.float32)


def choose_fault(draw: random.Random) -> dict[str, Any]:
    """Draw the arguments of a misbehaving environment."""
    kind = draw.choice(["raise", "act", "give", "give", "give", "space"])
    if kind == "space":
        place = draw.choice(["observation_space", "action_space"])
        return {"where": place, "what": draw.choice(list(SPACES)), "call": 0}
    if kind == "give":
        slots = [f"step.{slot}" for slot in SLOTS] + ["reset.observation", "reset.info"]
        where, what = draw.choice(["step", "reset", *slots]), draw.choice(list(GIVEN))
    else:
        where = draw.choice(["init", "reset", "step", "close"])
        what = draw.choice(list(RAISED if kind == "raise" else ACTS))
    return {"where": where, "what": what, "call": draw.choice([0, 0, 1, 7])}
