"""One file, no second edit: each kind of part from a package that the project has never seen."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import distes
from distes.cli import main
from distes.runs.reader import load

FILES = {
    "strategy": '''
"""A strategy that stays where it is."""

from dataclasses import dataclass

import numpy as np

from distes.population.distributions import Gaussian, Point
from distes.population.records import Population
from distes.seeds import noise_key
from distes.strategies.base import Strategy
from distes.types import PositiveFloat


@dataclass(frozen=True)
class State:
    generation: int


@dataclass(frozen=True)
class Still(Strategy[State]):
    """Samples about the start for ever.

    Attributes:
        width: standard deviation.
    """

    width: PositiveFloat = 1.0

    def init(self, problem):
        return State(0)

    def ask(self, problem, state):
        std = np.full(problem.num_parameters, self.width)
        key = noise_key(problem.seed, state.generation)
        return problem.population(Gaussian(problem.start, std, key), 8)

    def tell(self, problem, state, population, episodes):
        return State(state.generation + 1)

    def solution(self, problem, state):
        return Population(Point(problem.start), 1)
''',
    "policy": '''
"""A linear policy with one more setting."""

from dataclasses import dataclass

from distes.policies.linear import Linear


@dataclass(frozen=True)
class Steep(Linear):
    """Linear.

    Attributes:
        slope: not used.
    """

    slope: float = 2.0
''',
    "environment": '''
"""A point on a line, pushed left or right, and its kernel."""

import gymnasium as gym
import numpy as np

from distes.engines.kernels.kernel import Kernel, uniform


class LineKernel(Kernel):
    num_states = 1

    def __init__(self):
        self.constants = np.zeros(0)

    @staticmethod
    def reset(state, generator, context, constants):
        state[0] = uniform(generator, -1.0, 1.0)

    @staticmethod
    def observe(state, constants, observation):
        observation[0] = state[0]

    @staticmethod
    def step(state, action, generator, constants):
        state[0] += 0.1 * (2.0 * action[0] - 1.0)
        return -abs(state[0]), False


class Line(gym.Env):
    kernel = LineKernel
    observation_space = gym.spaces.Box(-10.0, 10.0, (1,), np.float64)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1.0, 1.0)
        return np.array([self.place]), {}

    def step(self, action):
        self.place += 0.1 * (2.0 * action - 1.0)
        return np.array([self.place]), -abs(self.place), False, False, {}


gym.register("house/Line-v0", f"{__name__}:Line", max_episode_steps=20)
''',
    "engine": '''
"""An engine that counts what it runs."""

from distes.engines.loop import LoopEngine

CALLS = []


class Counting(LoopEngine):
    def run(self, population, key, start, stop):
        CALLS.append(stop - start)
        return super().run(population, key, start, stop)
''',
    "observer": '''
"""An observer that remembers."""

from distes.search.observer import Observer

SEEN = []


class Remembering(Observer):
    def generation(self, row):
        SEEN.append(row["generation"])
''',
    "figure": '''
"""A figure of a run's returns, in one line."""

from matplotlib.figure import Figure as Picture

from distes.views.figures.base import Figure


class Bare(Figure):
    def draw(self, runs):
        picture = Picture()
        picture.subplots().plot(runs[0].generations["episode_return_mean"])
        return picture
''',
}


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the package ``house``, which is where modules are looked for."""
    (tmp_path / "house").mkdir()
    (tmp_path / "house" / "__init__.py").write_text("")
    for name, text in FILES.items():
        (tmp_path / "house" / f"{name}.py").write_text(text.lstrip())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "house"]:
        del sys.modules[name]
    gym.registry.pop("house/Line-v0", None)


def check(run: Path, engine: str) -> None:
    """The run is one of the package's own parts."""
    config = load(run).config
    assert config["search"]["strategy"]["name"] == "house.strategy:Still"
    assert config["search"]["policy"]["name"] == "house.policy:Steep"
    assert config["search"]["env"] == "house.environment:house/Line-v0"
    assert config["engine"] == engine
    assert len(load(run).episodes) == 16


def test_by_name_from_python(house: Path) -> None:
    result = distes.Search(
        "house.environment:house/Line-v0",
        strategy="house.strategy:Still",
        policy="house.policy:Steep",
        engine="house.engine:Counting",
        observers=("house.observer:Remembering",),
        generations=2,
        workers=0,
        out="run",
    ).run()
    check(result.path, "house.engine:Counting")  # type: ignore[arg-type]
    seen: Any = sys.modules["house.observer"]
    counted: Any = sys.modules["house.engine"]
    assert seen.SEEN == [0, 1]
    assert sum(counted.CALLS) >= 16
    assert len(distes.plot("run", over="house.figure:Bare").axes) == 1


def test_by_name_on_the_command_line(house: Path) -> None:
    arguments = ["run", "house.environment:house/Line-v0", "--strategy", "house.strategy:Still"]
    arguments += ["--strategy.width", "0.5", "--policy", "house.policy:Steep"]
    arguments += ["--policy.slope", "3", "--observer", "house.observer:Remembering"]
    arguments += ["--engine", "house.engine:Counting", "--generations", "2", "--workers", "0"]
    assert main([*arguments, "--out", "run"]) == 0
    check(house / "run", "house.engine:Counting")
    assert load(house / "run").config["search"]["strategy"]["width"] == 0.5
    assert load(house / "run").config["search"]["policy"]["slope"] == 3.0
    seen: Any = sys.modules["house.observer"]
    assert seen.SEEN == [0, 1]
    assert main(["plot", "run", "--over", "house.figure:Bare", "--out", "bare.png"]) == 0
    assert (house / "bare.png").stat().st_size > 1000


TOML = """
env = "house.environment:house/Line-v0"
engine = "house.engine:Counting"
observers = ["house.observer:Remembering"]
generations = 2
workers = 0
out = "run"

[strategy]
name = "house.strategy:Still"
width = 0.5

[policy]
name = "house.policy:Steep"
"""


def test_by_name_from_toml(house: Path) -> None:
    (house / "search.toml").write_text(TOML)
    assert main(["run", "search.toml"]) == 0
    check(house / "run", "house.engine:Counting")
    seen: Any = sys.modules["house.observer"]
    assert seen.SEEN == [0, 1]


def test_the_environment_brings_its_kernel(house: Path) -> None:
    """With a policy that has one, its own file alone makes the environment run compiled."""
    for engine in ("auto", "loop"):
        distes.Search(
            "house.environment:house/Line-v0",
            strategy="house.strategy:Still",
            engine=engine,
            generations=2,
            workers=0,
            out=engine,
        ).run()
    compiled, loop = load("auto"), load("loop")
    assert (compiled.config["engine"], loop.config["engine"]) == ("compiled", "loop")
    assert compiled.episodes["episode_return"].equals(loop.episodes["episode_return"])
