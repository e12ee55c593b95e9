"""Kernels of users: what agrees passes, what differs is located, and engines find them."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from marks import slow
from paths import EXAMPLES

import distes
from distes import policies
from distes.engines import choice
from distes.engines.kernels import lookup
from distes.errors import Notice, UsageError
from distes.policies.base import PolicySpec
from distes.population.distributions import Point, Table
from distes.population.probes import ObservationMoments
from distes.population.records import Population, RunKey, Status

pytest.importorskip("numba")

from distes.engines.kernels.actors import layers
from distes.engines.kernels.environments.cartpole import CartPole
from distes.engines.kernels.environments.contextual_cartpole import ContextualCartPole
from distes.engines.kernels.kernel import Actor, Array, Kernel, jit, rounded, uniform
from distes.testing import assert_kernel_matches

LINEAR = policies.Linear()
EDGE = 2.0
MOMENTS = (ObservationMoments(np.zeros(2)),)


class Slide(Kernel):
    """A sledge on ice in the wind."""

    num_states = 3
    info_names = ("place",)

    def __init__(self, wind: float = 1.0) -> None:
        self.constants = np.array([float(wind)])

    @staticmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        state[0] = uniform(generator, -1.0, 1.0)

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        observation[0], observation[1] = rounded(state[0]), rounded(state[1])

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        wind = uniform(generator, -constants[0], constants[0])
        state[1] += 0.1 * (action[0] + wind)
        state[0] += 0.1 * state[1]
        state[2] += 1.0
        return -abs(state[0]), abs(state[0]) > EDGE

    @staticmethod
    def inform(state: Array, constants: Array, info: Array) -> None:
        info[0] = state[0]


class Sledge(gym.Env[Any, Any]):
    """The same for Gymnasium."""

    kernel = Slide

    def __init__(self, wind: float = 1.0, mass: float = 1.0) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (2,))
        self.action_space = gym.spaces.Box(-1.0, 1.0, (1,))
        self.wind, self.mass = wind, mass

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place, self.speed = self.np_random.uniform(-1.0, 1.0), 0.0
        return self.seen(), {"place": self.place}

    def step(self, action: Any) -> Any:
        wind = self.np_random.uniform(-self.wind, self.wind)
        self.speed += 0.1 * (float(action[0]) + wind) / self.mass
        self.place += 0.1 * self.speed
        over = abs(self.place) > EDGE
        return self.seen(), -abs(self.place), over, False, {"place": self.place}

    def seen(self) -> Any:
        return np.array([self.place, self.speed], np.float32)


class Late(Slide):
    """Its constant is wrong from the sixth step on."""

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        wind = uniform(generator, -constants[0], constants[0])
        state[2] += 1.0
        state[1] += (0.11 if state[2] > 5.0 else 0.1) * (action[0] + wind)
        state[0] += 0.1 * state[1]
        return -abs(state[0]), abs(state[0]) > 2.0


class Generous(Slide):
    """Its reward is wrong at the third step."""

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        wind = uniform(generator, -constants[0], constants[0])
        state[1] += 0.1 * (action[0] + wind)
        state[0] += 0.1 * state[1]
        state[2] += 1.0
        bonus = 0.5 if state[2] == 3.0 else 0.0
        return bonus - abs(state[0]), abs(state[0]) > 2.0


class Exact(Slide):
    """Shows what float32 can't."""

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        observation[0], observation[1] = state[0], state[1]


class Hasty(Slide):
    """Gives up after the fourth step."""

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        wind = uniform(generator, -constants[0], constants[0])
        state[1] += 0.1 * (action[0] + wind)
        state[0] += 0.1 * state[1]
        state[2] += 1.0
        return -abs(state[0]), state[2] == 4.0


class Elsewhere(Slide):
    """Tells another place."""

    @staticmethod
    def inform(state: Array, constants: Array, info: Array) -> None:
        info[0] = -state[0]


class Small(Slide):
    """Writes beyond its state."""

    num_states = 1


class Heavy(Sledge):
    """Steps otherwise, and gives no kernel of its own."""

    def step(self, action: Any) -> Any:
        return super().step(0.5 * action)


class Odd(Sledge):
    """Has something else of that name."""

    kernel = "gaussian"  # type: ignore[assignment]


class Clumsy(Sledge):
    """Falls over."""

    def step(self, action: Any) -> Any:
        raise RuntimeError("fell over")


def sledge() -> gym.Env[Any, Any]:
    return Sledge()


def failure(kernel: type[Kernel], env: Any = Sledge, **settings: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        assert_kernel_matches(kernel, env, LINEAR, 60, **settings)
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_a_faithful_kernel_passes() -> None:
    """If wrong: nobody can use the check."""
    report = assert_kernel_matches(Slide, Sledge, LINEAR, 120)
    assert report.episodes == 120
    assert report.steps > 120
    assert "Slide agrees with Sledge to the last bit: 120 episodes" in str(report)


@pytest.mark.slow
def test_networks_pass_within_rounding() -> None:
    report = assert_kernel_matches(Slide, Sledge, policies.MLP(hidden=(4,)), 30, tolerance=1e-6)
    assert "within 1e-06" in str(report)


@pytest.mark.slow
def test_the_environment_of_the_example_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from quadrotor import Flight, Quadrotor

    assert_kernel_matches(Flight, "quadrotor:Quadrotor-v0", LINEAR, 60)
    assert_kernel_matches(Flight, Quadrotor, LINEAR, 20, env_kwargs={"wind": 2.0}, seed=3)


def test_our_own_kernels_pass_with_contexts_drawn_and_imposed() -> None:
    report = assert_kernel_matches(ContextualCartPole, "distes/ContextualCartPole-v0", LINEAR, 150)
    assert report.episodes == 150


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        slow(Late, "at step 6 the observation[0] is "),
        (Generous, "at step 3 the reward is "),
        slow(Exact, "at the reset the observation[0] is "),
        slow(Hasty, "at step 4 the episode is terminated in the kernel and going on in the"),
        slow(Elsewhere, "at the end the info['place'] is "),
    ],
)
def test_what_differs_is_located(kernel: type[Kernel], expected: str) -> None:
    """If wrong: the message sends its reader to the wrong place."""
    said = failure(kernel)
    assert said.startswith(f"{kernel.__name__} differs from Sledge in episode 0 of 60 (seed ")
    assert expected in said


@pytest.mark.slow
def test_the_values_are_those_of_the_environment() -> None:
    """The episode runs again by what the message says: its seed, and the value there."""
    said = failure(Exact)
    seed = int(said.partition("(seed ")[2].partition(",")[0])
    first = Sledge().reset(seed=seed)[0][0]
    exact = np.random.default_rng(seed).uniform(-1.0, 1.0)
    assert f"is {exact} in the kernel and {float(first)} in the environment" in said
    assert "rounded to float32" in said


@pytest.mark.slow
def test_a_tolerance_forgives_rounding_and_no_more() -> None:
    kwargs: dict[str, Any] = {"env_kwargs": {"wind": 0.0}}
    with pytest.raises(AssertionError):
        assert_kernel_matches(Late, Sledge, LINEAR, 20, tolerance=1e-3, **kwargs)
    assert_kernel_matches(Exact, Sledge, policies.Linear(bias=False), 1, tolerance=1e-2, seed=1)


def test_arguments_are_honoured_or_refused() -> None:
    """If wrong: a kernel ignores the mass and nobody notices."""
    assert_kernel_matches(Slide, Sledge, LINEAR, 20, env_kwargs={"wind": 0.25})
    with pytest.raises(UsageError, match=r"does not honour env_kwargs .*mass"):
        assert_kernel_matches(Slide, Sledge, LINEAR, 20, env_kwargs={"mass": 2.0})
    task = distes.Task(Sledge, env_kwargs={"mass": 2.0}, max_episode_steps=50)
    assert choice.resolve("auto", task, task.build_policy(LINEAR)) == "loop"
    with pytest.raises(UsageError, match="mass"):
        choice.resolve("compiled", task, task.build_policy(LINEAR))


def test_contexts_must_be_as_many() -> None:
    assert "has num_contexts 0" in failure(Slide, "distes/ContextualCartPole-v0")


def test_writing_beyond_an_array_is_caught() -> None:
    """If wrong: machine code writes into memory that is not its own."""
    assert "Small.observe raises IndexError in plain Python" in failure(Small)


def test_a_fault_of_the_environment_is_named() -> None:
    said = failure(Slide, Clumsy)
    assert "Clumsy raises in episode 0" in said
    assert "RuntimeError: fell over" in said


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"kernel": Sledge}, "is not a subclass of"),
        ({"kernel": Slide()}, "is not a subclass of"),
        ({"policy": "linear"}, "policy 'linear' is none"),
        ({"policy": policies.GaussianNoise()}, "GaussianNoise has no kernel"),
        ({"episodes": 0}, "episodes 0 is not at least 1"),
        ({"seed": -1}, "seed -1"),
        ({"tolerance": math.nan}, "tolerance nan"),
        ({"env": "Sledge-v9"}, "unknown environment"),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, Any], expected: str) -> None:
    given: dict[str, Any] = {"kernel": Slide, "env": Sledge, "policy": LINEAR, **change}
    with pytest.raises(UsageError, match=expected):
        assert_kernel_matches(**given)


def test_engines_take_a_class_with_a_kernel_of_its_own() -> None:
    """If wrong: a subclass is run by the steps of its parent."""

    def chosen(env: Any, **settings: Any) -> str:
        task = distes.Task(env, max_episode_steps=50, **settings)
        return choice.resolve("auto", task, task.build_policy(LINEAR))

    assert chosen(Sledge) == "compiled"
    assert chosen(Sledge, log_info=("place",)) == "compiled"
    assert chosen(Heavy) == "loop"
    assert chosen(Odd) == "loop"
    assert chosen(sledge) == "loop"
    assert chosen(Sledge, log_info=("speed",)) == "loop", "its kernel would log NaN"


def make_lean(sizes: tuple[int, ...]) -> Any:
    @jit
    def choose(
        parameters: Array, seen: Array, settings: Array, memory: Array, rng: Array, choice: Array
    ) -> None:
        choice[0] = 1.0 if seen[2] + parameters[0] * seen[3] > 0.0 else 0.0

    return choose


class LeanPolicy:
    """Pushes to where the pole leans; its file has its machine code, too."""

    num_parameters, observation_size, stochastic = 1, 4, False

    def encode(self, observation: Any) -> Any:
        return np.asarray(observation, np.float64)

    def initial(self, generator: np.random.Generator) -> Any:
        return np.ones(1)

    def bind(self, parameters: Any) -> Any:
        return lambda seen, _: int(seen[2] + parameters[0] * seen[3] > 0.0)

    def actor(self) -> Actor:
        return Actor(make_lean, layers.decode_number, (), 1, 1, np.zeros(1))


class HeirPolicy(LeanPolicy):
    """Perhaps acts otherwise than its parent."""


@dataclasses.dataclass(frozen=True)
class Lean(PolicySpec):
    built: type = LeanPolicy

    def build(self, observation_space: Any, action_space: Any) -> Any:
        return self.built()


def test_a_policy_of_ones_own_brings_its_actor() -> None:
    """Otherwise its machine code would have to be written into the project's own folder."""
    task = distes.Task("CartPole-v1")
    assert choice.resolve("auto", task, LeanPolicy()) == "compiled"
    assert assert_kernel_matches(CartPole, "CartPole-v1", Lean(), episodes=100).steps > 100
    assert choice.resolve("auto", task, HeirPolicy()) == "loop"
    with pytest.raises(UsageError, match="HeirPolicy has no kernel for these spaces"):
        choice.resolve("compiled", task, HeirPolicy())


def test_environments_are_known_by_whatever_name() -> None:
    """Another id, a shorter path to the class, the class itself; not its children."""
    from gymnasium.envs.classic_control import CartPoleEnv

    class Child(CartPoleEnv):
        pass

    def make(**arguments: Any) -> CartPoleEnv:
        return CartPoleEnv(**arguments)

    made: dict[str, Any] = {
        "Alias-v0": "gymnasium.envs.classic_control:CartPoleEnv",
        "Alias-v1": "gymnasium.envs.classic_control.cartpole:CartPoleEnv",
        "Alias-v2": CartPoleEnv,
        "Alias-v3": Child,
        "Alias-v4": make,
    }
    try:
        for name, entry in made.items():
            gym.register(name, entry_point=entry, max_episode_steps=15)
        assert [lookup.covers(distes.Task(name)) for name in made] == [*[True] * 3, *[False] * 2]
        assert lookup.covers(distes.Task(CartPoleEnv))
        table = Table(np.random.default_rng(0).standard_normal((20, 10)))
        lengths = []
        for engine, name in (("compiled", "Alias-v0"), ("loop", "Alias-v1")):
            task = distes.Task(name)
            policy = task.build_policy(LINEAR)
            chunk = choice.make(engine, task, policy).run(
                Population(table, 20), RunKey(3, 0), 0, 20
            )
            lengths.append(chunk.rows["episode_length"].tolist())
        assert lengths[0] == lengths[1]
        assert 15 in lengths[0]
    finally:
        for name in made:
            gym.registry.pop(name, None)


@pytest.mark.parametrize("width", [4, 11])
def test_parameters_of_another_size_are_refused(width: int) -> None:
    """If wrong: machine code reads what lies behind them."""
    task = distes.Task("CartPole-v1")
    engine = choice.make("compiled", task, task.build_policy(LINEAR))
    population = Population(Table(np.zeros((3, width))), 3)
    with pytest.raises(UsageError, match=rf"shape \({width},\), the policy has 10"):
        engine.run(population, RunKey(0, 0), 0, 3)


@pytest.mark.parametrize("width", [1, 2, 6])
def test_statistics_of_another_size_are_refused(width: int) -> None:
    """If wrong: machine code reads what lies behind them."""
    task = distes.Task("CartPole-v1")
    engine = choice.make("compiled", task, task.build_policy(LINEAR))
    frozen = {"observation_mean": np.zeros(4), "observation_std": np.ones(width)}
    population = Population(Table(np.zeros((3, 10))), 3, frozen=frozen)
    with pytest.raises(UsageError, match=rf"std has shape \({width},\), observations have \(4,\)"):
        engine.run(population, RunKey(0, 0), 0, 3)


@pytest.mark.slow
def test_a_kernel_in_a_script_runs_uncached(tmp_path: Path) -> None:
    """If wrong: scripts fail, or leave machine code that another script would load."""
    script = tmp_path / "script.py"
    lines = Path(__file__).read_text(encoding="utf-8")
    body = lines[lines.index("class Slide(") : lines.index("class Late(")]
    script.write_text(
        "from __future__ import annotations\n"
        "from typing import Any\n"
        "import gymnasium as gym\nimport numpy as np\nimport distes\n"
        "from distes.engines.kernels.kernel import Array, Kernel, rounded, uniform\n"
        f"EDGE = {EDGE}\n{body}\n"
        "task = distes.Task(Sledge, max_episode_steps=50)\n"
        "search = distes.Search(task, generations=2, workers=0, final_episodes=2, out='run')\n"
        "print(search.resolved_engine(), len(search.run().run.generations))\n",
        encoding="utf-8",
    )
    cache = tmp_path / "cache"
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["compiled", "2"], done.stderr
    assert not list(cache.rglob("kernels/*"))


def test_importing_distes_loads_no_numba() -> None:
    code = (
        "import sys, distes.testing, distes.engines.kernels.lookup\nprint('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_changed_number_makes_other_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """If wrong: the machine code of the number that was goes on, as in a notebook."""
    task = distes.Task(Sledge, max_episode_steps=50)
    policy = task.build_policy(LINEAR)
    population = Population(Point(np.zeros(policy.num_parameters)), 20)

    def differing() -> int:
        found = [choice.make(name, task, policy) for name in ("compiled", "loop")]
        lengths = [
            each.run(population, RunKey(0, 0), 0, 20).rows["episode_length"] for each in found
        ]
        return int((lengths[0] != lengths[1]).sum())

    assert differing() == 0
    monkeypatch.setattr(sys.modules[__name__], "EDGE", 0.5)
    assert differing() == 0


def test_covers_is_a_cheap_question() -> None:
    assert lookup.covers(distes.Task(Sledge))
    assert not lookup.covers(distes.Task(Heavy))


class Brittle(Slide):
    """Breaks where the wind is strong."""

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        wind = uniform(generator, -constants[0], constants[0])
        if wind > 0.95:
            raise ValueError("the runner broke")
        state[1] += 0.1 * (action[0] + wind)
        state[0] += 0.1 * state[1]
        return -abs(state[0]), abs(state[0]) > EDGE


class Glass(Sledge):
    """The same for Gymnasium."""

    kernel = Brittle

    def step(self, action: Any) -> Any:
        wind = self.np_random.uniform(-self.wind, self.wind)
        if wind > 0.95:
            raise ValueError("the runner broke")
        self.speed += 0.1 * (float(action[0]) + wind)
        self.place += 0.1 * self.speed
        return self.seen(), -abs(self.place), abs(self.place) > EDGE, False, {}


class Frail(Brittle):
    """Breaks where it begins, too."""

    @staticmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        state[0] = uniform(generator, -1.0, 1.0)
        if state[0] > 0.6:
            raise ValueError("the runner broke")


class Thin(Glass):
    """The same for Gymnasium."""

    kernel = Frail

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        shown = super().reset(seed=seed)
        if self.place > 0.6:
            raise ValueError("the runner broke")
        return shown


class Foggy(Slide):
    """Shows what is no number: in some resets, and in some steps, after which it goes on."""

    @staticmethod
    def observe(state: Array, constants: Array, observation: Array) -> None:
        observation[0], observation[1] = rounded(state[0]), rounded(state[1])
        if state[2] == 0.0 and state[0] > 0.6:
            observation[1] = np.inf
        if state[2] == 5.0 and state[1] > 0.0:
            observation[0] = np.nan


class Fog(Sledge):
    """The same for Gymnasium."""

    kernel = Foggy

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.steps = 0
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        self.steps += 1
        return super().step(action)

    def seen(self) -> Any:
        shown = super().seen()
        if self.steps == 0 and self.place > 0.6:
            shown[1] = np.inf
        if self.steps == 5 and self.speed > 0.0:
            shown[0] = np.nan
        return shown


@pytest.mark.parametrize("limit", [5, 25])
@pytest.mark.parametrize("asked", [{}, {"records": ("actions", "rewards")}, {"probes": MOMENTS}])
def test_what_is_not_finite_is_seen_by_both_engines(asked: dict[str, Any], limit: int) -> None:
    """If wrong: machine code passes an episode as ok that the loop does not, or says it otherwise;
    the last observation, on which nobody acts, counts, too."""
    task = distes.Task(Fog, max_episode_steps=limit)
    policy = task.build_policy(LINEAR)
    table = np.random.default_rng(0).normal(size=(60, policy.num_parameters))
    population = Population(Table(table), 60, **asked)
    there, here = (
        choice.make(engine, task, policy).run(population, RunKey(3, 1), 0, 60)
        for engine in ("loop", "compiled")
    )
    lost = there.rows["status"] == Status.ERROR
    assert 5 < lost.sum() < 55
    for column in ("status", "episode_return", "episode_length", "terminated", "truncated"):
        np.testing.assert_array_equal(here.rows[column], there.rows[column])
    assert here.faults == there.faults
    said = "".join(text for _, text in here.faults)
    assert "the observation of the reset has inf in component 1" in said
    assert "the observation after step 5 has nan in component 0" in said
    for mine, theirs in zip(here.nodes, there.nodes, strict=True):
        for name, sums in theirs[2].items():
            np.testing.assert_allclose(mine[2][name], sums, rtol=1e-12)


@pytest.mark.parametrize("asked", [{}, {"records": ("actions", "rewards")}, {"probes": MOMENTS}])
@pytest.mark.parametrize("env", [Glass, slow(Thin)])
def test_an_episode_whose_kernel_raises_is_lost_alone(env: Any, asked: dict[str, Any]) -> None:
    """If wrong: one bad episode ends the run, or takes its neighbours along."""
    task = distes.Task(env, max_episode_steps=25)
    policy = task.build_policy(LINEAR)
    table = np.random.default_rng(0).normal(size=(60, policy.num_parameters))
    chunks = {}
    for engine in ("loop", "compiled"):
        population = Population(Table(table), 60, **asked)
        chunks[engine] = choice.make(engine, task, policy).run(population, RunKey(3, 1), 0, 60)
    there, here = chunks["loop"], chunks["compiled"]
    lost = here.rows["status"] == Status.ERROR
    assert 5 < lost.sum() < 55
    for column in ("status", "episode_return", "terminated"):
        np.testing.assert_array_equal(here.rows[column], there.rows[column])
    sound = here.rows["status"] == Status.OK
    np.testing.assert_array_equal(
        here.rows["episode_length"][sound], there.rows["episode_length"][sound]
    )
    for mine, theirs in zip(here.nodes, there.nodes, strict=True):
        assert mine[:2] == theirs[:2]
        for name, sums in theirs[2].items():
            np.testing.assert_allclose(mine[2][name], sums, rtol=1e-12)
    assert len(here.nodes) == len(there.nodes) == (4 if "probes" in asked else 0)
    assert [number for number, _ in here.faults] == [number for number, _ in there.faults]
    assert all("ValueError: the runner broke" in said for _, said in here.faults)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"log_info": ("speed",)}, "Sledge has a kernel, yet runs step by step: its kernel gives"),
        (
            {"policy": policies.GaussianNoise()},
            "policy GaussianPolicy has no kernel for these spaces",
        ),
        ({"episode_timeout_s": 5.0}, "episode_timeout_s"),
        ({"engine": "loop"}, None),
        ({}, None),
    ],
)
def test_it_is_said_why_a_kernel_is_left_aside(
    settings: dict[str, Any], expected: str | None
) -> None:
    """If wrong: a run is a hundred times slower than its user believes."""
    ours = {key: settings.pop(key) for key in ("log_info",) if key in settings}
    task = distes.Task(Sledge, max_episode_steps=50, **ours)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        distes.Search(task, **settings).check()
    said = [str(each.message) for each in caught if issubclass(each.category, Notice)]
    assert len(said) == (expected is not None)
    assert expected is None or expected in said[0]


class Leader(Brittle):
    """Breaks like `Brittle`, and shows how it was asked to begin."""

    num_contexts = 1

    @staticmethod
    def reset(state: Array, generator: Array, context: Array, constants: Array) -> None:
        state[0] = uniform(generator, -1.0, 1.0) if len(context) == 0 else context[0]

    @staticmethod
    def show(state: Array, constants: Array, context: Array) -> None:
        context[0] = rounded(state[0])


class Led(Glass):
    """The same for Gymnasium."""

    kernel = Leader

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        gym.Env.reset(self, seed=seed)
        given = (options or {}).get("context")
        self.place = self.np_random.uniform(-1.0, 1.0) if given is None else float(given[0])
        self.speed = 0.0
        return self.seen(), {"context": np.array([np.float32(self.place)])}


def test_neighbours_of_a_raising_episode_keep_their_contexts() -> None:
    """If wrong: they begin again where they were seen, not where they were asked to begin."""
    task = distes.Task(Led, max_episode_steps=25, context="info")
    policy = task.build_policy(LINEAR)
    generator = np.random.default_rng(0)
    table = generator.normal(size=(60, policy.num_parameters))
    population = Population(Table(table), 60, contexts=generator.uniform(-1.0, 1.0, (60, 1)))
    there, here = (
        choice.make(engine, task, policy).run(population, RunKey(3, 1), 0, 60)
        for engine in ("loop", "compiled")
    )
    assert 5 < (here.rows["status"] == Status.ERROR).sum() < 55
    np.testing.assert_array_equal(here.rows["episode_return"], there.rows["episode_return"])
    np.testing.assert_array_equal(here.contexts, there.contexts)
    assert all(said.count("Traceback") == 1 for _, said in here.faults)


class Track(Slide):
    """Reads a schedule that is as long as an episode."""

    @staticmethod
    def step(state: Array, action: Array, generator: Array, constants: Array) -> tuple[float, bool]:
        wind = uniform(generator, -constants[0], constants[0])
        state[1] += SCHEDULE[int(state[2])] * (action[0] + wind)
        state[0] += 0.1 * state[1]
        state[2] += 1.0
        return -abs(state[0]), abs(state[0]) > EDGE


SCHEDULE = np.full(25, 0.1)


@pytest.mark.slow
def test_no_more_steps_than_an_episode_has_are_tried() -> None:
    """If wrong: a sound kernel is refused for a step that it never takes."""
    gym.register("Track-v0", Sledge, max_episode_steps=25)
    try:
        assert_kernel_matches(Track, "Track-v0", LINEAR, 50)
    finally:
        del gym.registry["Track-v0"]


def test_a_fault_of_the_kernel_alone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where trying it in plain Python has not come upon it."""
    monkeypatch.setattr("distes.testing.kernels.TRIED_EPISODES", 0)
    said = failure(Brittle)
    assert "raises in episode" in said
    assert "where Sledge does not" in said
    assert "ValueError: the runner broke" in said


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "far faster: pip install"),
        ({"episode_timeout_s": 5.0}, "episode_timeout_s"),
        ({"policy": policies.GaussianNoise()}, "no kernel for these spaces"),
    ],
)
def test_installing_is_advised_where_it_helps(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], expected: str
) -> None:
    """If wrong: somebody installs numba for nothing."""
    monkeypatch.setattr(lookup, "is_numba_installed", lambda: False)
    with pytest.warns(Notice, match=expected):
        distes.Search("Pendulum-v1", **settings).check()
