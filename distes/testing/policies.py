# ruff: noqa: S101 - assertions are what a conformance suite is made of
"""What every policy must keep to, as a class of tests to subclass."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.spaces import (
    Box,
    Dict,
    Discrete,
    Graph,
    MultiBinary,
    MultiDiscrete,
    Sequence,
    Text,
    Tuple,
)
from numpy.random import default_rng

from distes.errors import UsageError
from distes.policies.base import Policy, PolicySpec
from distes.seeds import policy_generator

SpacePair = tuple[gym.Space[Any], gym.Space[Any]]

OBSERVATION_SPACES: tuple[gym.Space[Any], ...] = (
    Box(-np.inf, np.inf, (4,), np.float32),
    Box(-1.0, 1.0, (17,), np.float64),
    Box(-2.0, 3.0, (1,), np.float32),
    Box(-1.0, 1.0, (), np.float32),
    Box(0, 255, (3, 4, 2), np.uint8),
    Discrete(5, start=-2),
    MultiDiscrete([2, 3]),
    MultiBinary((2, 2)),
    Dict({"position": Box(-1.0, 1.0, (2, 2)), "mode": Discrete(3), "on": MultiBinary(2)}),
    Tuple((Box(-1.0, 1.0, (3,)), Tuple((Discrete(2), MultiDiscrete([2, 2]))))),
)

ACTION_SPACES: tuple[gym.Space[Any], ...] = (
    Discrete(2),
    Discrete(6, start=3),
    Discrete(1),
    Box(-2.0, 2.0, (1,), np.float32),
    Box(np.array([-1, 0, -np.inf], np.float32), np.array([1, 0.5, np.inf], np.float32)),
    Box(-1.0, 1.0, (2, 3), np.float64),
    Box(0, 255, (2,), np.uint8),
    MultiDiscrete([2, 4, 3], start=[0, -1, 5]),
    MultiBinary(3),
)

UNSUPPORTED_SPACES: tuple[gym.Space[Any], ...] = (
    Text(5),
    Sequence(Box(-1.0, 1.0, (2,))),
    Graph(Box(-1.0, 1.0, (2,)), None),
)


class PolicyConformance:
    """Subclass it as ``TestMine``, set ``spec``, and pytest runs its tests.

    Attributes:
        spec: the policy's specification.
        spaces: (observation space, action space) pairs that the policy supports.
        unsupported: pairs that it must refuse.
        steps: observations of an episode.
    """

    spec: ClassVar[PolicySpec]
    spaces: ClassVar[tuple[SpacePair, ...]] = (
        *((observation, Discrete(3)) for observation in OBSERVATION_SPACES),
        *((Box(-np.inf, np.inf, (4,), np.float32), action) for action in ACTION_SPACES),
    )
    unsupported: ClassVar[tuple[SpacePair, ...]] = (
        *((observation, Discrete(2)) for observation in UNSUPPORTED_SPACES),
        *((Box(-1.0, 1.0, (2,)), action) for action in UNSUPPORTED_SPACES),
        (Dict({"said": Text(5), "seen": Box(-1.0, 1.0, (2,))}), Discrete(2)),
    )
    steps: ClassVar[int] = 12

    def test_counts_describe_the_arrays(self) -> None:
        """Otherwise strategies and workers hold vectors of different lengths."""
        for policy, observations, _ in self._policies():
            start = policy.initial(default_rng(1))
            assert start.shape == (policy.num_parameters,)
            assert start.dtype == np.float64
            assert np.isfinite(start).all()
            for observation in observations:
                encoded = policy.encode(observation)
                assert encoded.shape == (policy.observation_size,)
                assert encoded.dtype == np.float64

    def test_actions_belong_to_the_action_space(self) -> None:
        """Otherwise environments get what they do not accept, or of another precision."""
        for policy, observations, action_space in self._policies():
            for scale in (0.0, 1.0, 1e6):
                for action in _episode(policy, self._parameters(policy) * scale, observations):
                    assert action in action_space, f"{action!r} is not in {action_space}"
                    if isinstance(action_space, Box):
                        assert action.dtype == action_space.dtype

    def test_an_episode_is_a_function_of_its_arguments(self) -> None:
        """Otherwise results depend on which worker ran what, and in what order."""
        for policy, observations, _ in self._policies():
            parameters, other = self._parameters(policy), self._parameters(policy, seed=8)
            expected = _episode(policy, parameters, observations)
            _episode(policy, other, observations[::-1])
            assert _same(expected, _episode(policy, parameters, observations))
            # Two episodes taking turns must not meet either.
            acts = policy.bind(parameters), policy.bind(other)
            generators = policy_generator(3), policy_generator(4)
            taken = []
            for observation in observations:
                encoded = policy.encode(observation)
                acts[1](encoded, generators[1])
                taken.append(acts[0](encoded, generators[0]))
            assert _same(expected, taken)

    def test_bits_do_not_depend_on_where_parameters_lie(self) -> None:
        """Otherwise one candidate drawn alone acts unlike the same drawn in a batch."""
        for policy, observations, _ in self._policies():
            parameters = self._parameters(policy)
            expected = _episode(policy, parameters, observations)
            rows, columns = np.zeros((3, len(parameters))), np.zeros((len(parameters), 3))
            rows[1], columns[:, 1] = parameters, parameters
            assert _same(expected, _episode(policy, rows[1], observations))
            assert _same(expected, _episode(policy, columns[:, 1], observations))

    def test_nothing_given_is_changed(self) -> None:
        """Otherwise acting alters the candidate, or what the environment returned."""
        for policy, observations, _ in self._policies():
            parameters = self._parameters(policy)
            before = pickle.dumps((parameters, observations))
            kept = parameters.copy()
            copies = pickle.loads(before)[1]  # noqa: S301 - made two lines above
            _episode(policy, parameters, observations)
            assert np.array_equal(parameters, kept)
            assert _same(copies, observations)

    def test_pickled_policy_acts_alike(self) -> None:
        """Otherwise workers cannot have the policy that the driver has."""
        for policy, observations, _ in self._policies():
            copy = pickle.loads(pickle.dumps(policy))  # noqa: S301 - made here
            parameters = self._parameters(policy)
            assert _same(
                _episode(policy, parameters, observations), _episode(copy, parameters, observations)
            )

    def test_initial_comes_from_the_generator(self) -> None:
        """Otherwise the same seed does not give the same run."""
        for policy, _, _ in self._policies():
            first = policy.initial(default_rng(5))
            assert np.array_equal(first, policy.initial(default_rng(5)))
            first += 1.0
            assert not np.array_equal(first, policy.initial(default_rng(5)))

    def test_specification_is_its_fields(self) -> None:
        """Otherwise a run's configuration does not bring its policy back."""
        assert type(self.spec)(**asdict(self.spec)) == self.spec

    def test_unsupported_spaces_are_refused(self) -> None:
        """Otherwise the mistake shows only once workers run."""
        for observation_space, action_space in self.unsupported:
            said = ""
            try:
                self.spec.build(observation_space, action_space)
            except UsageError as error:
                said = str(error)
            assert said, f"({observation_space}, {action_space}) was accepted"
            assert "\n" not in said
            names = (type(observation_space).__name__, type(action_space).__name__)
            assert any(name in said for name in names), said

    def _policies(self) -> Iterator[tuple[Policy, list[Any], gym.Space[Any]]]:
        """Build a policy for each pair of spaces, with observations of an episode."""
        for observation_space, action_space in self.spaces:
            observation_space.seed(11)
            observations = [observation_space.sample() for _ in range(self.steps)]
            yield self.spec.build(observation_space, action_space), observations, action_space

    def _parameters(self, policy: Policy, seed: int = 7) -> Any:
        return default_rng(seed).standard_normal(policy.num_parameters)


def _episode(policy: Policy, parameters: Any, observations: list[Any]) -> list[Any]:
    act = policy.bind(parameters)
    generator = policy_generator(3)
    return [act(policy.encode(observation), generator) for observation in observations]


def _same(first: Any, second: Any) -> bool:
    """Whether two observations, actions or lists of them are equal in type and bits."""
    if type(first) is not type(second):
        return False
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_same(first[k], second[k]) for k in first)
    one, other = np.asarray(first), np.asarray(second)
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
