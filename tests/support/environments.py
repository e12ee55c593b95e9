"""Small environments for tests; importable, so that workers and other processes find them."""

from __future__ import annotations

import builtins
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete


class Walk(gym.Env[Any, Any]):
    """A noisy walk on a line; the reward is minus the distance from the goal.

    The goal is 1, or what ``reset(options={"context": ...})`` says.
    """

    def __init__(self, fail_above: float = np.inf, nan_above: float = np.inf) -> None:
        self.observation_space = Box(-np.inf, np.inf, (2,))
        self.action_space = Box(-1.0, 1.0, (1,))
        self.fail_above, self.nan_above = fail_above, nan_above

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.goal = 1.0 if options is None else float(options["context"][0])
        self.position = float(self.np_random.normal())
        self.t = 0
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.t += 1
        self.position += 0.2 * float(action[0]) + 0.05 * float(self.np_random.normal())
        if self.position > self.fail_above:
            raise RuntimeError(f"position {self.position:.1f} is off the table")
        reward = -abs(self.position - self.goal)
        if self.position > self.nan_above:
            reward = float("nan")
        info = {"distance": abs(self.position - self.goal), "is_success": reward > -0.2}
        return self._observation(), reward, self.t >= 10, False, info

    def _observation(self) -> Any:
        return np.array([self.position, self.goal], dtype=np.float32)


class Reused(gym.Env[Any, Any]):
    """Gives one array as every observation, changed in place."""

    def __init__(self) -> None:
        self.observation_space = Box(-np.inf, np.inf, (1,), np.float64)
        self.action_space = Discrete(2)
        self.array = np.zeros(1)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.array[0] = 0.0
        return self.array, {}

    def step(self, action: Any) -> Any:
        self.array[0] += 1.0
        return self.array, 1.0, bool(self.array[0] >= 5), False, {}


class Broken(gym.Env[Any, Any]):
    """Fails at every reset."""

    observation_space = Box(-1.0, 1.0, (1,))
    action_space = Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        raise ZeroDivisionError("the simulator has no licence")


def walk(**kwargs: Any) -> gym.Env[Any, Any]:
    return Walk(**kwargs)


class SlowWalk(Walk):
    """A population of 20 takes a fifth of a second."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        time.sleep(0.01)
        return super().reset(seed=seed, options=options)


def slow_walk() -> gym.Env[Any, Any]:
    return SlowWalk(fail_above=2.5)


def limited_walk() -> gym.Env[Any, Any]:
    return gym.wrappers.TimeLimit(Walk(), 4)


def normalised_walk() -> gym.Env[Any, Any]:
    return gym.wrappers.NormalizeObservation(Walk())


def reused() -> gym.Env[Any, Any]:
    return Reused()


def broken() -> gym.Env[Any, Any]:
    return Broken()


def sphere(parameters: Any) -> float:
    return -float(np.sum((np.asarray(parameters) - 1.0) ** 2))


def noisy_sphere(parameters: Any, seed: int) -> float:
    return sphere(parameters) + float(np.random.default_rng(seed).standard_normal())


def vectorised_sphere(parameters: Any) -> Any:
    return -np.sum((parameters - 1.0) ** 2, axis=1)


def slow_sphere(parameters: Any) -> float:
    time.sleep(0.004)
    return sphere(parameters)


def watched_sphere(parameters: Any) -> float:
    """Fails for some parameters, and takes a while for the rest."""
    if int(abs(parameters[0]) * 1e6) % 5 == 0:
        raise RuntimeError("this one fails")
    return slow_sphere(parameters)


def picky_sphere(parameters: Any) -> Any:
    if not np.isfinite(parameters).all():
        raise ValueError("not finite")
    return vectorised_sphere(parameters)


class SmallRewards(Reused):
    """Ten thousand rewards in single precision."""

    def step(self, action: Any) -> Any:
        self.array[0] += 1.0
        return self.array, np.float32(0.1), bool(self.array[0] >= 10_000), False, {}


def small_rewards() -> gym.Env[Any, Any]:
    return SmallRewards()


class Unclosable(Reused):
    """Fails when it is closed, once the driver is done with looking at it."""

    closed = 0

    def close(self) -> None:
        type(self).closed += 1
        if type(self).closed > 2:
            raise OSError("the simulator is gone")


def unclosable() -> gym.Env[Any, Any]:
    return Unclosable()


def inner_limit() -> gym.Env[Any, Any]:
    return gym.wrappers.ClipAction(gym.wrappers.TimeLimit(Walk(), 4))


class Paced(Walk):
    """A walk whose episodes last as long as a file says: its number of seconds on average,
    by seed; while it says ``hold``, until it says otherwise; without the file, no time.

    How long an episode lasts does not change it.
    """

    def __init__(self, pace: str) -> None:
        super().__init__()
        self.pace = Path(pace)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        share = np.random.default_rng(seed).exponential()
        while (pace := self._pace()) == "hold":
            time.sleep(0.01)
        time.sleep(min(share, 5.0) * float(pace))
        return super().reset(seed=seed, options=options)

    def _pace(self) -> str:
        try:
            return self.pace.read_text()
        except FileNotFoundError:
            return "0"


def paced(pace: str) -> gym.Env[Any, Any]:
    return Paced(pace)


class Windy(Walk):
    """A walk whose context is its goal and a wind, drawn at reset or as it is asked for.

    It shows the context in its observation and in its info.
    """

    def __init__(self, fail_above: float = np.inf) -> None:
        super().__init__(fail_above)
        self.observation_space = Box(-np.inf, np.inf, (3,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        gym.Env.reset(self, seed=seed)
        self.position = float(self.np_random.normal())
        drawn = self.np_random.uniform(-1.0, 1.0, 2)
        self.goal, self.wind = drawn if options is None else options["context"]
        self.t = 0
        return self._observation(), {"context": [self.goal, self.wind]}

    def step(self, action: Any) -> Any:
        self.position += 0.1 * self.wind
        return super().step(action)

    def _observation(self) -> Any:
        return np.array([self.position, self.goal, self.wind], dtype=np.float32)


class Mute(Windy):
    """Heeds contexts without showing them in its info."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        observation, _ = super().reset(seed=seed, options=options)
        return observation, {}


class Deaf(Windy):
    """Draws its context itself, whatever it is asked for."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)


class DeafMute(Mute):
    """Neither heeds nor shows."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)


class Lost(Windy):
    """Its context is not a number."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        observation, _ = super().reset(seed=seed, options=options)
        return observation, {"context": [np.nan, 0.0]}


class SlowlyLost(Windy):
    """Its context is not a number in some episodes."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        observation, info = super().reset(seed=seed, options=options)
        lost = seed is not None and seed % 7 == 3
        return observation, {"context": [np.nan, 0.0]} if lost else info


class Stale(Windy):
    """Keeps the context of the first episode that an instance ran."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.kept = getattr(self, "kept", options)
        return super().reset(seed=seed, options=self.kept)


def windy(**kwargs: Any) -> gym.Env[Any, Any]:
    return Windy(**kwargs)


def mute() -> gym.Env[Any, Any]:
    return Mute()


def deaf() -> gym.Env[Any, Any]:
    return Deaf()


def deaf_mute() -> gym.Env[Any, Any]:
    return DeafMute()


def lost() -> gym.Env[Any, Any]:
    return Lost()


def slowly_lost() -> gym.Env[Any, Any]:
    return SlowlyLost()


def near_zero(generator: Any) -> Any:
    """A sampler of contexts."""
    return 0.1 * generator.standard_normal(2)


def short_sampler(generator: Any) -> Any:
    return [0.5]


def nan_sampler(generator: Any) -> Any:
    return [0.5, np.nan]


def bumps(contexts: Any) -> Any:
    """Features of contexts: a constant, their squares and themselves."""
    return np.hstack([np.ones((len(contexts), 1)), contexts**2, contexts])


def target(context: Any) -> Any:
    """The best parameters of `bowl`."""
    return np.array([context[0] + 0.5, context[-1] ** 2, -context[0]])


def bowl(parameters: Any, context: Any) -> float:
    return -float(np.sum((parameters - target(context)) ** 2))


def bowls(parameters: Any, contexts: Any) -> Any:
    """`bowl` of many rows."""
    return np.array([bowl(*each) for each in zip(parameters, contexts, strict=True)])


def noisy_bowl(parameters: Any, context: Any, seed: int) -> float:
    return bowl(parameters, context) + 0.1 * float(np.random.default_rng(seed).standard_normal())


def fragile_bowl(parameters: Any, context: Any) -> float:
    """Fails where the context is above a half."""
    if context[0] > 0.5:
        raise RuntimeError("the bowl is broken")
    return bowl(parameters, context)


class StaleMute(Stale):
    """Keeps its first context, and does not show it."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        observation, _ = super().reset(seed=seed, options=options)
        return observation[:1], {}

    def _observation(self) -> Any:
        return np.array([self.position, 0.0, 0.0], dtype=np.float32)


class Unseeded(Windy):
    """Its info's context is drawn from nowhere, and has no other effect."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        observation, _ = super().reset(seed=seed, options=options)
        return observation, {"context": [time.perf_counter(), 0.0]}


class Painted(Windy):
    """Paints its position: a line that moves to the right."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, fail_above: float = np.inf) -> None:
        super().__init__(fail_above)
        self.render_mode = render_mode

    def render(self) -> Any:
        return painted_frame(self.position) if self.render_mode == "rgb_array" else None


def painted_frame(position: float) -> Any:
    frame = np.full((24, 40, 3), 255, np.uint8)
    frame[:, int(np.clip(20 + 5 * position, 0, 39))] = 0
    return frame


def painted(render_mode: str | None = None, **kwargs: Any) -> gym.Env[Any, Any]:
    return Painted(render_mode, **kwargs)


def always_painted() -> gym.Env[Any, Any]:
    """Renders without being asked to."""
    return Painted("rgb_array")


def never_painted() -> gym.Env[Any, Any]:
    """Could render, and can't be asked to."""
    return Painted()


class Blank(Painted):
    """Renders, it says."""

    def render(self) -> Any:
        return None


class Smudged(Painted):
    """Fails to render."""

    def render(self) -> Any:
        raise OSError("the canvas is wet")


class Moody(Painted):
    """Its rewards depend on what no seed settles."""

    mood = 0.0

    def step(self, action: Any) -> Any:
        observation, reward, *rest = super().step(action)
        return observation, reward + Moody.mood, *rest


def ranked(table: Any) -> Any:
    """A fitness rule that gives no return."""
    return 1000.0 - table.mean(axis=1) ** 2


class Forgetful(Walk):
    """It goes on where its last episode ended, so that no episode can be had again."""

    position = 0.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        last = self.position
        super().reset(seed=seed, options=options)
        self.position = last
        return self._observation(), {}


class Tiring(Walk):
    """Fails at chosen resets of its process, counted from 1."""

    resets = 0

    def __init__(self, fails: tuple[int, ...]) -> None:
        super().__init__()
        self.fails = fails

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        Tiring.resets += 1
        if Tiring.resets in self.fails:
            raise RuntimeError(f"tired of reset {Tiring.resets}")
        return super().reset(seed=seed, options=options)


class Leaving(Walk):
    """Raises what no `Exception` is, at a place where its position is above a limit."""

    def __init__(self, place: str = "step", error: str = "SystemExit", above: float = 0.5) -> None:
        super().__init__()
        self.place, self.error, self.above = place, getattr(builtins, error), above
        if place == "make":
            raise self.error(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        shown = super().reset(seed=seed, options=options)
        self._leave("reset")
        return shown

    def step(self, action: Any) -> Any:
        taken = super().step(action)
        self._leave("step")
        return taken

    def close(self) -> None:
        self._leave("close")

    def _leave(self, place: str) -> None:
        if place == self.place and getattr(self, "position", 0.0) > self.above:
            raise self.error(3)


class Struck(Walk):
    """Sends its process a signal in one step, once, and may answer the answer to it by leaving."""

    def __init__(self, number: int, once: str, leaves: bool = False) -> None:
        super().__init__()
        self.number, self.once, self.leaves = number, Path(once), leaves

    def step(self, action: Any) -> Any:
        if self.t == 4:
            try:
                self._strike()
            except BaseException:
                if self.leaves:
                    sys.exit(3)
                raise
        return super().step(action)

    def _strike(self) -> None:
        with contextlib.suppress(FileExistsError):
            self.once.touch(exist_ok=False)
            signal.raise_signal(self.number)


class Wrong(Walk):
    """Gives something else than it is to give: as its reset does, or in its fifth step.

    ``place`` is that of the observation, reward, flag or info in a step's tuple.
    """

    def __init__(self, place: int, given: Any, reset: bool = False) -> None:
        super().__init__()
        self.place, self.given, self.at_reset = place, given, reset

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        shown = list(super().reset(seed=seed, options=options))
        if self.at_reset:
            shown[min(self.place, 1)] = self.given
        return tuple(shown)

    def step(self, action: Any) -> Any:
        taken = list(super().step(action))
        if self.t == 5 and not self.at_reset:
            taken[2] = True
            taken[self.place] = self.given
        return tuple(taken)


class Deadly(gym.Wrapper[Any, Any, Any, Any]):
    """CartPole that kills its process once, at a chosen number of steps in all."""

    def __init__(self, once: str, at: int) -> None:
        super().__init__(gym.make("CartPole-v1").unwrapped)
        self._once, self._left = Path(once), at

    def step(self, action: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            try:
                self._once.touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)
