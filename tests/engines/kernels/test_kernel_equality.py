"""The compiled engine against the loop engine: all that a chunk says, bit for bit.

Where numpy's transcendental functions are in the way, agreement is to rounding. Pairs that
declare equal bits are always held to them.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control.acrobot import AcrobotEnv
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from kernel_environments import Corridor, Plate
from marks import slow

pytest.importorskip("numba")

from distes import Search
from distes.engines import choice
from distes.engines.kernels import lookup
from distes.engines.wire import assemble
from distes.errors import UsageError
from distes.policies.base import PolicySpec
from distes.policies.linear import Linear
from distes.policies.mlp import MLP
from distes.policies.network import NetworkPolicy
from distes.policies.pid import Pid
from distes.policies.sigmoid import Sigmoid
from distes.policies.softmax import Softmax
from distes.policies.spaces import ObservationEncoder
from distes.policies.tabular import Tabular
from distes.policies.threshold import Threshold
from distes.population.distributions import Gaussian, Point, Table
from distes.population.features import build_features
from distes.population.folding import fold
from distes.population.policy_gradient_sums import PolicyGradientSums
from distes.population.probes import ObservationMoments
from distes.population.records import RECORDS, Population, Rerun, RunKey, Status
from distes.population.upper_policies import LinearGaussian, Mixture
from distes.seeds import Purpose, noise_key
from distes.tasks.environment import Task

KEY = RunKey(seed=3, generation=2)
ROWS = ("episode_return", "episode_length", "terminated", "truncated", "status")
DISCRETE = ("CartPole-v0", "CartPole-v1", "Acrobot-v1", "MountainCar-v0")
BOX = ("Pendulum-v1", "MountainCarContinuous-v0")
OURS = tuple(sorted(name for name in lookup.covered_environments() if name.startswith("distes/")))


def engines(task: Task, spec: PolicySpec | None = None) -> tuple[Any, Any, Any]:
    policy = task.build_policy(Linear() if spec is None else spec)
    assert choice.resolve("auto", task, policy) == "compiled"
    return (*(choice.make(name, task, policy) for name in ("compiled", "loop")), policy)


def spread(policy: Any, size: int, scale: float = 1.0, **changes: Any) -> Population:
    """Random candidates around a policy's first parameters."""
    start = policy.initial(np.random.default_rng(0))
    key = noise_key(KEY.seed, KEY.generation)
    return Population(Gaussian(start, np.full(len(start), scale), key), size, **changes)


def equal(found: Any, expected: Any, exact: bool, what: str) -> None:
    if exact:
        np.testing.assert_array_equal(found, expected, err_msg=what)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9, err_msg=what)


def assert_equal(found: Any, expected: Any, population: Population, exact: bool = True) -> None:
    """All of two chunks but their times."""
    for name in ROWS:
        equal(found.rows[name], expected.rows[name], exact, name)
    assert (found.contexts is None) == (expected.contexts is None)
    if found.contexts is not None:
        equal(found.contexts, expected.contexts, exact, "contexts")
    assert found.info.keys() == expected.info.keys()
    for name in found.info:
        equal(found.info[name], expected.info[name], exact, name)
    assert [number for number, _ in found.faults] == [number for number, _ in expected.faults]
    assert [node[:2] for node in found.nodes] == [node[:2] for node in expected.nodes]
    for (_, _, sums), (_, _, others) in zip(found.nodes, expected.nodes, strict=True):
        assert sums.keys() == others.keys()
        for name in sums:
            assert sums[name].dtype == others[name].dtype
            equal(sums[name], others[name], exact, name)
    if population.records:
        for name, values in vars(expected.trajectories).items():
            mine = getattr(found.trajectories, name)
            assert (mine.dtype, mine.shape) == (values.dtype, values.shape), name
            equal(mine, values, exact, name)


def compare(task: Task, spec: PolicySpec | None, size: int, **changes: Any) -> Any:
    """Run a population on both engines; gives the compiled engine's chunk."""
    compiled, loop, policy = engines(task, spec)
    population = spread(policy, size, **changes)
    chunks = [each.run(population, KEY, 0, population.num_episodes) for each in (compiled, loop)]
    assert_equal(*chunks, population, compiled.is_exact)
    return chunks[0]


def contextual(name: str, **changes: Any) -> Task:
    """A task as it is registered, with what its environment needs."""
    return Task(name, max_episode_steps=changes.pop("max_episode_steps", 60), **changes)


def specs(name: str) -> Iterator[tuple[str, PolicySpec, bool]]:
    """Policies for an environment, and whether they promise equal bits."""
    discrete = isinstance(gym.spec(name).make().action_space, gym.spaces.Discrete)
    yield "linear", Linear(), True
    yield "no bias, scaled", Linear(bias=False, scale_observations=True), True
    yield "relu", MLP(hidden=(5, 7, 3), activation="relu"), True
    yield "tanh", MLP(hidden=(6, 4)), False
    yield "tanh, no bias", MLP(hidden=(4,), bias=False, scale_observations=True), False
    if discrete:
        yield "threshold", Threshold(bias=True), True
        yield "threshold, scaled", Threshold(scale_observations=True), True
        yield "softmax", Softmax(), False
        yield "softmax, hidden", Softmax(hidden=(5,)), False
    else:
        yield "rescaled", Linear(rescale_actions=True), True
        yield "pid", Pid(setpoint=(0.1, 0.2), limit=2.0, offset=0.1), True


QUICK = ("CartPole-v1-relu", "Pendulum-v1-tanh", "Pendulum-v1-rescaled")
"""Each pair takes seconds to compile: the default run has one of a kind."""

PAIRS = [
    (pytest.param if f"{name}-{about}" in QUICK else slow)(name, spec, exact, id=f"{name}-{about}")
    for name in ("CartPole-v1", "Pendulum-v1")
    for about, spec, exact in specs(name)
]


@pytest.mark.parametrize(("name", "spec", "exact"), PAIRS)
def test_policies(name: str, spec: PolicySpec, exact: bool) -> None:
    """Each kind of policy, where actions are numbers and where they are vectors.

    If wrong: a pair that declares equal bits has others, and what a run gives depends on when its
    machine code is ready; or one that has them does not say so, and waits.
    """
    assert engines(contextual(name), spec)[0].is_exact == exact
    chunk = compare(contextual(name), spec, 40, episodes=2)
    assert (chunk.rows["status"] == Status.OK).all()


@pytest.mark.parametrize("spec", [Sigmoid(), slow(Sigmoid(hidden=(4,), bias=False))])
def test_bernoulli_policies(spec: PolicySpec) -> None:
    """Two actions, one output."""
    compare(contextual("CartPole-v1"), spec, 40, episodes=2)


ALIKE = {"CartPole-v0", "distes/ContextualAcrobot-v0", "distes/ContextualCartPole-v0"}
"""Their steps are those of another one."""


@pytest.mark.parametrize(
    "name", [slow(name) if name in ALIKE else name for name in (*DISCRETE, *BOX, *OURS)]
)
def test_environments(name: str) -> None:
    """Each environment with a kernel, at its own step limit, with a linear policy."""
    assert engines(Task(name))[0].is_exact
    chunk = compare(Task(name), Linear(), 15, episodes=2)
    assert (chunk.rows["status"] == Status.OK).all()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("CartPole-v1", {"sutton_barto_reward": True}),
        ("Pendulum-v1", {"g": 3.7}),
        ("MountainCar-v0", {"goal_velocity": 0.03}),
        ("MountainCarContinuous-v0", {"goal_velocity": 0.06}),
        ("distes/WallFollow-v0", {"noise": True}),
    ],
)
def test_arguments_are_honoured(name: str, arguments: dict[str, Any]) -> None:
    """And make a difference: the same episodes without them go otherwise."""
    good = {"MountainCar-v0": [0.0, 0.0, 0.0, -40.0, 0.0, 40.0, 0.0, 0.0, 0.0]}
    good["MountainCarContinuous-v0"] = [0.0, 20.0, 0.0]
    chunks = []
    for given in (arguments, {}):
        task = Task(name, env_kwargs=given)
        compiled, loop, policy = engines(task)
        population = spread(policy, 10, episodes=3)
        if name in good:
            population = replace(population, distribution=Point(np.array(good[name])))
        chunks.append(compiled.run(population, KEY, 0, 30))
        expected = loop.run(population, KEY, 0, 30)
        assert_equal(chunks[-1], expected, population)
    assert (chunks[0].rows["episode_return"] != chunks[1].rows["episode_return"]).any()


@pytest.mark.parametrize("arguments", [{"book_or_nips": "nips"}, {"gravity": 1.0}])
def test_arguments_that_a_kernel_does_not_honour_are_refused(arguments: dict[str, Any]) -> None:
    """Ignored, they would give another environment's results without a word."""
    task = Task("Acrobot-v1", env_kwargs=arguments)
    policy = Task("Acrobot-v1").build_policy(Linear())
    assert choice.resolve("auto", task, policy) == "loop"
    with pytest.raises(UsageError, match=f"Acrobot-v1.*{next(iter(arguments))}"):
        choice.resolve("compiled", task, policy)


@pytest.mark.parametrize("records", [(), RECORDS], ids=["", "recorded"])
@pytest.mark.parametrize("spec", [Tabular(), Softmax(), Linear(), Threshold()])
def test_discrete_observations(spec: PolicySpec, records: Any) -> None:
    """Numbers from 3, actions from -1; a network sees which cell it is by one-hot inputs."""
    task = Task(Corridor, max_episode_steps=30, env_kwargs={"slip": 0.3})
    policy = task.build_policy(spec)
    if not isinstance(spec, Tabular):
        assert choice.resolve("auto", task, policy) == "loop"
        with pytest.raises(UsageError, match="no kernel for these spaces"):
            choice.resolve("compiled", task, policy)
        return
    for same_start in (False, True):
        changes: dict[str, Any] = {"records": records, "same_start": same_start}
        chunk = compare(task, spec, 50, episodes=4, scale=0.5, **changes)
        assert len(np.unique(chunk.rows["episode_length"])) > 5


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_tables_with_odd_rows() -> None:
    """Rows with nothing positive, with zeros, infinities and NaN."""
    task = Task(Corridor, max_episode_steps=30)
    compiled, loop, policy = engines(task, Tabular())
    kinds = np.array([-1.0, 0.0, 0.5, 3.0, np.inf, np.nan])
    table = np.random.default_rng(2).choice(kinds, size=(200, policy.num_parameters))
    table[:40] = np.minimum(np.nan_to_num(table[:40]), 0.0)
    population = Population(Table(table), 200, records=RECORDS)
    assert_equal(*(e.run(population, KEY, 0, 200) for e in (compiled, loop)), population)


@pytest.mark.parametrize("records", [(), RECORDS], ids=["", "recorded"])
@pytest.mark.parametrize("rescale", [False, slow(True)])
def test_actions_of_two_dimensions(records: Any, rescale: bool) -> None:
    """Recorded in the shape that the environment has them in."""
    task = Task(Plate, max_episode_steps=12, log_info=("last",))
    compare(task, Linear(rescale_actions=rescale), 20, records=records)


def own_policy(name: str, **changes: Any) -> tuple[Task, NetworkPolicy]:
    task = Task(name, max_episode_steps=40)
    policy: Any = task.build_policy(Linear())
    return task, replace(policy, **changes)


class Contrary(NetworkPolicy):
    """Acts otherwise than its parent."""

    def bind(self, parameters: Any) -> Any:
        return super().bind(-parameters)


class Blinking(ObservationEncoder):
    """Sees otherwise than its parent."""

    def __init__(self, space: Any, scale: bool) -> None:
        super().__init__(space, scale)
        self.encode = lambda observation: -np.asarray(observation, np.float64)


def test_policies_that_change_what_ours_do_are_not_compiled_as_ours() -> None:
    """A subclass need not act as its parent."""
    task, policy = own_policy("CartPole-v1")
    parts = {name: getattr(policy, name) for name in ("encoder", "head", "hidden", "bias")}
    assert choice.resolve("auto", task, Contrary(**parts)) == "loop"
    seeing = Blinking(policy.encoder.space, False)
    assert choice.resolve("auto", task, replace(policy, encoder=seeing)) == "loop"


@dataclass(frozen=True)
class Endless:
    """Fails for some seeds."""

    def __call__(self, generator: Any) -> Any:
        drawn = generator.random(2)
        if drawn[0] < 0.3:
            raise RuntimeError("no context today")
        return 0.8 + 0.2 * drawn


BOUNDS: dict[str, Any] = {"context_low": (0.8, 0.5), "context_high": (1.2, 1.5)}
SOURCES: dict[str, dict[str, Any]] = {
    "info": {"context": "info"},
    "observation": {"context": "observation"},
    "components": {"context": "observation:2,0"},
    "uniform": {"context": "uniform", **BOUNDS},
    "sampler": {"context": Endless()},
}


def upper(task: Task, policy: Any, mixture: bool, **changes: Any) -> Population:
    """Parameters that depend on all components of the context."""
    features = build_features("quadratic", task.num_contexts)
    shape = (features.num_features, policy.num_parameters)
    generator = np.random.default_rng(1)
    key = noise_key(KEY.seed, KEY.generation)
    distribution: Any = LinearGaussian(
        generator.normal(size=shape), np.ones(policy.num_parameters), features, key
    )
    if mixture:
        gating = build_features("linear", task.num_contexts)
        distribution = Mixture(
            generator.normal(size=(gating.num_features, 3)),
            generator.normal(size=(3, *shape)),
            np.ones((3, policy.num_parameters)),
            gating,
            features,
            key,
            noise_key(KEY.seed, KEY.generation, 1),
        )
    return Population(distribution, 12, **changes)


@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["distes/PhysicalCartPole-v0", "distes/PhysicalPendulum-v0"])
def test_contexts_and_what_is_drawn_for_them(name: str, source: str, mixture: bool) -> None:
    """Parameters are drawn once the reset has shown the context."""
    task = Task(name, max_episode_steps=50, **SOURCES[source])
    compiled, loop, policy = engines(task)
    population = upper(task, policy, mixture, episodes=3)
    found, expected = (each.run(population, KEY, 0, 36) for each in (compiled, loop))
    assert_equal(found, expected, population, compiled.is_exact)
    failed = (found.rows["status"] == Status.ERROR).sum()
    assert (failed > 0) == (source == "sampler")
    assert failed < 36


@pytest.mark.parametrize("name", OURS)
def test_imposed_contexts(name: str) -> None:
    """Shown again, to the last bit, and with every engine the same episode."""
    task = Task(name, max_episode_steps=80)
    compiled, loop, policy = engines(task)
    env = task.make_env()
    shown = np.array([env.reset(seed=i)[1]["context"] for i in range(9)])
    population = spread(policy, 9, episodes=2, contexts=shown)
    found, expected = (each.run(population, KEY, 0, 18) for each in (compiled, loop))
    assert_equal(found, expected, population, compiled.is_exact)
    np.testing.assert_array_equal(found.contexts, np.repeat(shown, 2, axis=0))


@pytest.mark.parametrize("name", OURS)
def test_contexts_out_of_range_are_refused_alike(name: str) -> None:
    """Whether an environment takes a context must not depend on who runs it."""
    task = Task(name, max_episode_steps=5)
    compiled, loop, policy = engines(task)
    bad = np.full((2, task.num_contexts or compiled._kernel.num_contexts), 1e6)
    population = spread(policy, 2, contexts=bad)
    messages = []
    for engine in (compiled, loop):
        with pytest.raises(UsageError) as caught:
            engine.run(population, KEY, 0, 2)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "distes/PhysicalCartPole-v0"])
def test_contexts_of_the_wrong_length_or_that_are_not_heeded(name: str) -> None:
    """One engine must not accept what the other refuses."""
    task = Task(name, max_episode_steps=5, context="info" if "/" in name else "observation")
    compiled, loop, policy = engines(task)
    for width in (1, task.num_contexts):
        population = spread(policy, 2, contexts=np.full((2, width), 0.9))
        told = []
        for engine in (compiled, loop):
            try:
                engine.run(population, KEY, 0, 2)
                told.append("")
            except UsageError as error:
                told.append(str(error))
        assert told[0] == told[1]


@pytest.mark.parametrize("cut", [1, 5])
def test_a_context_that_is_no_number_costs_its_own_episode(cut: int) -> None:
    """Wherever it lies in a chunk."""
    task = Task(Plate, max_episode_steps=6, context="info")
    compiled, loop, policy = engines(task)
    for population in (spread(policy, 30), upper(task, policy, mixture=False, episodes=3)):
        size = population.num_episodes
        for first, last in itertools.pairwise(range(0, size + 1, cut)):
            found, expected = (each.run(population, KEY, first, last) for each in (compiled, loop))
            assert_equal(found, expected, population, compiled.is_exact)
        whole = compiled.run(population, KEY, 0, size)
        assert 0 < (whole.rows["status"] == Status.ERROR).sum() < size


NORMAL: dict[str, Any] = {
    "observation_mean": np.array([0.01, -0.2, 0.003, 0.1]),
    "observation_std": np.array([0.5, 1.3, 0.07, 0.9]),
}


@pytest.mark.parametrize("scaled", [False, True])
def test_normalised_observations_and_their_moments(scaled: bool) -> None:
    """The sums equal bit for bit, of observations before they are normalised."""
    probe = ObservationMoments(np.array([0.1, 0.2, 0.3, -0.1]))
    for frozen, records in itertools.product(({}, NORMAL), ((), RECORDS)):
        spec = Linear(scale_observations=scaled)
        changes: dict[str, Any] = {"frozen": frozen, "probes": (probe,), "records": records}
        compare(Task("CartPole-v1"), spec, 33, episodes=2, **changes)


def test_moments_of_a_single_component() -> None:
    """numpy adds a single column in another order if it is let."""
    task = Task(Corridor, max_episode_steps=60)
    compare(task, Tabular(), 20, probes=(ObservationMoments(np.array([0.3])),))


@pytest.mark.parametrize("frozen", [{}, NORMAL])
def test_scores(frozen: Any) -> None:
    """What a policy gradient is made of, beside the moments."""
    probes = (
        PolicyGradientSums(discount=0.98, horizon=10, value=True, squares=True, entropy=True),
        ObservationMoments(np.zeros(4)),
    )
    task = contextual("CartPole-v1")
    compare(task, Softmax(), 21, episodes=2, probes=probes, frozen=frozen)


@pytest.mark.parametrize(
    "spec", [Linear(), Softmax(), slow(Threshold()), slow(MLP(hidden=(4,), activation="relu"))]
)
def test_records_of_numbered_actions(spec: PolicySpec) -> None:
    """Types and shapes are the loop's: what learns from them reads both."""
    compare(contextual("CartPole-v1"), spec, 13, records=RECORDS)


@pytest.mark.parametrize(
    "spec", [Linear(), slow(Linear(rescale_actions=True)), Pid(setpoint=(0.0,), log_error=False)]
)
@pytest.mark.parametrize("name", ["Pendulum-v1", slow("distes/WallFollow-v0")])
def test_records_of_vectors(name: str, spec: PolicySpec) -> None:
    """float32 where the space is."""
    compare(contextual(name), spec, 13, records=RECORDS)


def test_what_the_wall_robot_tells() -> None:
    """NaN where a time is missing; what its kernel does not tell is left to the loop."""
    names = ("collisions", "wall_reached", "overshoot", "time_to_target")
    task = Task("distes/WallFollow-v0", log_info=names)
    chunk = compare(task, Pid(), 60, scale=20.0)
    for name in names[:3]:
        assert len(np.unique(chunk.info[name])) > 1, name
    reached = chunk.info["wall_reached"] == 1.0
    np.testing.assert_array_equal(np.isnan(chunk.info["time_to_target"]), ~reached)
    more = replace(task, log_info=(*names, "absent"))
    assert choice.resolve("auto", more, more.build_policy(Pid())) == "loop"


@pytest.mark.parametrize(
    "changes",
    [
        {"max_steps": 7},
        {"max_steps": 1},
        {"max_steps": 500},
        {"episodes": np.array([3, 0, 5, 1, 0, 0, 2, 9])},
        {"seed_group": 8},
        {"seed_group": 2, "episodes": 3},
        {"same_start": True, "episodes": 4},
        {"purpose": Purpose.TEST, "episodes": 2},
    ],
    ids=str,
)
def test_what_a_population_asks_for(changes: dict[str, Any]) -> None:
    """Limits, numbers of episodes, shared seeds."""
    compare(contextual("CartPole-v1"), Linear(), 8, records=RECORDS, **changes)
    compare(contextual("CartPole-v1"), Softmax(), 8, records=RECORDS, **changes)


def test_episodes_that_are_run_again() -> None:
    """With the seeds that they had, of environment and of policy."""
    task = contextual("CartPole-v1")
    compiled, loop, policy = engines(task, Softmax())
    population = spread(policy, 9, episodes=4, same_start=True)
    chunk = compiled.run(population, KEY, 0, 36)
    episodes = assemble(population, KEY, task, [chunk])
    rows = np.array([1, 2, 11, 12, 30, 35])
    again = replace(population, rerun=Rerun.of(population, episodes, rows), records=RECORDS)
    found, expected = (each.run(again, KEY, 0, 6) for each in (compiled, loop))
    assert_equal(found, expected, again, compiled.is_exact)
    for name in ROWS:
        np.testing.assert_array_equal(found.rows[name], chunk.rows[name][rows])


@pytest.mark.parametrize("rule", ["mean", "min", "cvar:0.25"])
def test_fitness(rule: str) -> None:
    """The rule is applied outside, to the same returns."""
    task = Task("CartPole-v1", fitness=rule, reward_shift=0.5, max_episode_steps=60)
    compiled, loop, policy = engines(task)
    population = spread(policy, 10, episodes=5)
    found, expected = (
        assemble(population, KEY, task, [each.run(population, KEY, 0, 50)])
        for each in (compiled, loop)
    )
    np.testing.assert_array_equal(found.fitness, expected.fitness)


def bad_table(policy: Any) -> Any:
    """Parameters with a NaN or an infinity in each place, in turn, and in all."""
    good = np.tile(np.random.default_rng(5).normal(size=policy.num_parameters), (7, 1))
    rows = [good[:1]]
    for value in (np.nan, np.inf, -np.inf):
        placed = np.tile(good[0], (policy.num_parameters, 1))
        np.fill_diagonal(placed, value)
        rows += [placed, np.full((1, policy.num_parameters), value)]
    return np.concatenate(rows)


@pytest.mark.parametrize("probes", ["none", "moments", "scores", "both"])
@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("CartPole-v1", Linear()),
        slow("CartPole-v1", Threshold(bias=True)),
        slow("CartPole-v1", MLP(hidden=(3,), activation="relu")),
        slow("CartPole-v1", MLP(hidden=(3,))),
        ("CartPole-v1", Softmax()),
        slow("CartPole-v1", Sigmoid()),
        ("Pendulum-v1", Linear()),
        slow("Pendulum-v1", Linear(rescale_actions=True)),
        ("Pendulum-v1", Pid(setpoint=(0.0,), log_error=False)),
        slow("MountainCarContinuous-v0", Linear()),
        slow("distes/WallFollow-v0", Linear()),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_parameters_that_are_no_numbers(name: str, spec: PolicySpec, probes: str) -> None:
    """They are marked as the loop marks them, and stop nothing."""
    scored = isinstance(spec, Softmax | Sigmoid)
    if probes in ("scores", "both") and not scored:
        pytest.skip("it has no scores")
    task = Task(name, max_episode_steps=20)
    compiled, loop, policy = engines(task, spec)
    chosen: dict[str, Any] = {
        "none": (),
        "moments": (ObservationMoments(np.zeros(policy.observation_size)),),
        "scores": (PolicyGradientSums(),),
        "both": (PolicyGradientSums(), ObservationMoments(np.zeros(policy.observation_size))),
    }
    table = bad_table(policy)
    population = Population(
        Table(table), len(table), probes=chosen[probes], records=() if scored else RECORDS
    )
    for cut in (len(table), 1):
        for first in range(0, len(table), cut):
            found, expected = (
                each.run(population, KEY, first, first + cut) for each in (compiled, loop)
            )
            assert_equal(found, expected, population, compiled.is_exact)


class LastReward:
    """A probe that is not ours."""

    records = frozenset({"observations", "actions", "rewards"})

    def sums(self, trajectory: Any, policy: Any, frozen: Any) -> Any:
        return {"last_reward": trajectory.rewards[-1:].sum(keepdims=True)}


@pytest.mark.parametrize("gravity", [np.nan, 10.0])
def test_no_sum_is_missing_where_all_returns_are_nan(gravity: float) -> None:
    """Chunks of such episodes must fold with the others'."""
    probes = (LastReward(), ObservationMoments(np.zeros(3)))
    task = Task("Pendulum-v1", max_episode_steps=5, env_kwargs={"g": gravity})
    chunk = compare(task, Linear(), 4, probes=probes)
    assert {*chunk.nodes[0][2]} >= {"last_reward", "observation_sum"}


@pytest.mark.parametrize("cuts", [[7, 20], [1, 2, 3], [16], list(range(1, 48))])
def test_chunks_of_any_cut_agree(cuts: list[int]) -> None:
    """Where a population is cut must not show: rows, contexts, records and sums, all bits."""
    task = Task("distes/PhysicalCartPole-v0", max_episode_steps=60, context="info")
    compiled, _, policy = engines(task, Softmax())
    probes = (ObservationMoments(np.zeros(4)), PolicyGradientSums(discount=0.9))
    population = replace(
        upper(task, policy, mixture=True, episodes=4, same_start=True),
        probes=probes,
        records=RECORDS,
        frozen=NORMAL,
    )
    whole = compiled.run(population, KEY, 0, 48)
    parts = [compiled.run(population, KEY, a, b) for a, b in itertools.pairwise([0, *cuts, 48])]
    for name in ROWS:
        rows = np.concatenate([part.rows[name] for part in parts])
        np.testing.assert_array_equal(rows, whole.rows[name])
    np.testing.assert_array_equal(np.concatenate([part.contexts for part in parts]), whole.contexts)
    for name, values in vars(whole.trajectories).items():
        joined = np.concatenate([getattr(part.trajectories, name) for part in parts])
        np.testing.assert_array_equal(joined, values)
    sums = fold([node for part in parts for node in part.nodes], 48)
    for name, value in fold(whole.nodes, 48).items():
        np.testing.assert_array_equal(sums[name], value)


def test_chunks_longer_than_one_call() -> None:
    """A chunk is run in calls of a thousand or so, of which nothing is to be seen."""
    from distes.engines.compiled import SLICE

    size = SLICE + 77
    task = Task("CartPole-v1", max_episode_steps=30)
    compiled, loop, policy = engines(task)
    population = spread(policy, size, probes=(ObservationMoments(np.zeros(4)),))
    found, expected = (each.run(population, KEY, 0, size) for each in (compiled, loop))
    assert_equal(found, expected, population)
    spent = found.rows["duration_s"]
    assert (spent > 0).all()
    assert (np.diff(found.rows["started_at"]) >= 0).all()


GOOD: dict[str, list[float]] = {
    "CartPole-v0": [0.0, 0.1, 0.0, 0.5, 0.0, 3.0, 0.0, 1.0, 0.0, 0.0],
    "CartPole-v1": [0.0, 0.05, 0.0, 0.4, 0.0, 2.0, 0.0, 1.5, 0.0, 0.0],
    # Pushes along with the second joint's velocity, and with the car's.
    "Acrobot-v1": [0.0] * 15 + [-1.0, 0.0, 1.0] + [0.0] * 3,
    "MountainCar-v0": [0.0, 0.0, 0.0, -40.0, 0.0, 40.0, 0.0, 0.0, 0.0],
}
EPISODES = 10_000


def loop_rows(name: str, spec: PolicySpec, population: Population, start: int, stop: int) -> Any:
    """Rows of some episodes by the loop engine."""
    task = Task(name)
    engine = choice.make("loop", task, task.build_policy(spec))
    return engine.run(population, KEY, start, stop).rows


@pytest.mark.slow
@pytest.mark.parametrize("name", [*DISCRETE, "Pendulum-v1"])
@pytest.mark.parametrize("spec", [Linear(), MLP(hidden=(8,), activation="relu")])
def test_no_episode_of_ten_thousand_differs(spec: Any, name: str) -> None:
    """Random and good policies, seeds of all lengths that an engine can be given."""
    task = Task(name)
    compiled, _, policy = engines(task, spec)
    generator = np.random.default_rng(11)
    half = EPISODES // 2
    table = generator.normal(size=(EPISODES, policy.num_parameters))
    if isinstance(spec, Linear) and name in GOOD:
        table[half:] = np.array(GOOD[name]) + 0.05 * table[half:]
    bits = generator.integers(0, 64, EPISODES)
    seeds = generator.integers(0, 2**63, EPISODES, np.uint64) >> (63 - bits).astype(np.uint64)
    seeds = seeds.astype(np.int64)
    number = np.arange(EPISODES)
    again = Rerun(number, np.zeros_like(number), seeds, seeds)
    population = Population(Table(table), EPISODES, rerun=again)
    found = compiled.run(population, KEY, 0, EPISODES)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        parts = [(name, spec, population, at, at + 500) for at in range(0, EPISODES, 500)]
        expected = np.concatenate(pool.starmap(loop_rows, parts, chunksize=1))
    differing = np.zeros(EPISODES, bool)
    for column in ROWS:
        differing |= found.rows[column] != expected[column]
    assert differing.sum() == 0
    returns = expected["episode_return"]
    assert len(np.unique(returns)) > 1 or name == "MountainCar-v0"
    if isinstance(spec, Linear) and name in GOOD:
        assert returns[half:].mean() > returns[:half].mean()


def test_environments_are_named_at_any_time() -> None:
    """Loading a kernel must not stand in the way."""
    names = lookup.covered_environments()
    for name in names:
        lookup.kernel_of(Task(name))
    assert lookup.covered_environments() == names
    assert {*DISCRETE, *BOX} < {*names}


def test_a_kernel_that_takes_no_contexts_is_not_asked_for_any() -> None:
    """The loop engine tells of environments that pass contexts over."""
    task = Task("CartPole-v1", context="uniform", context_low=(0.0,), context_high=(1.0,))
    policy = task.build_policy(Linear())
    assert choice.resolve("auto", task, policy) == "loop"
    with pytest.raises(UsageError, match="takes no contexts"):
        choice.resolve("compiled", task, policy)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"env": "Pendulum-v1", "env_kwargs": {"g": "fast"}}, "constants are"),
        ({"env": "MountainCar-v0", "env_kwargs": {"goal_velocity": "fast"}}, "does not honour"),
        ({"env": "CartPole-v1", "env_kwargs": {"render_mode": "human"}}, "draws nothing"),
        ({"env": CartPoleEnv}, "no step limit"),
        ({"env": partial(CartPoleEnv), "max_episode_steps": 9}, "has no kernel"),
    ],
)
def test_what_a_kernel_does_not_honour_is_not_compiled(changes: Any, reason: str) -> None:
    task = Task(**changes)
    policy = Task("CartPole-v1").build_policy(Linear())
    assert choice.resolve("auto", task, policy) == "loop"
    with pytest.raises(UsageError, match=reason):
        choice.resolve("compiled", task, policy)


def test_a_changed_class_of_gymnasiums_is_not_compiled(monkeypatch: Any) -> None:
    monkeypatch.setattr(AcrobotEnv, "book_or_nips", "nips")
    task = Task("Acrobot-v1")
    assert choice.resolve("auto", task, task.build_policy(Linear())) == "loop"


def test_episodes_under_a_time_limit_are_watched_one_by_one() -> None:
    search = Search("CartPole-v1", episode_timeout_s=5.0, workers=2)
    assert search.resolved_engine() == "loop"
    search = Search("CartPole-v1", episode_timeout_s=5.0, workers=2, engine="compiled")
    assert search.resolved_engine() == "compiled"
