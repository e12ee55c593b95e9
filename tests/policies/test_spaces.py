"""Encoders of observations and heads of actions."""

from __future__ import annotations

import pickle
from collections import OrderedDict

import numpy as np
import pytest
from gymnasium.spaces import (
    Box,
    Dict,
    Discrete,
    Graph,
    MultiBinary,
    MultiDiscrete,
    OneOf,
    Sequence,
    Text,
    Tuple,
)
from gymnasium.spaces.utils import flatten
from hypothesis import given
from hypothesis import strategies as st

from distes.errors import UsageError
from distes.policies.spaces import ActionHead, ObservationEncoder

LARGEST = np.finfo(np.float32).max


# Observations


def test_box_is_flattened_row_by_row_as_it_is():
    """Otherwise pixels or joints reach weights that were searched for others."""
    image = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    encoded = ObservationEncoder(Box(0, 255, (2, 3, 4), np.uint8)).encode(image)
    assert np.array_equal(encoded, np.arange(24.0))
    assert encoded.dtype == np.float64


def test_float32_is_widened_without_change():
    """Otherwise returns differ from a plain loop that does astype(float64)."""
    observation = np.float32([0.1, -3.3, 1e-40])
    encoded = ObservationEncoder(Box(-np.inf, np.inf, (3,), np.float32)).encode(observation)
    assert np.array_equal(encoded, observation.astype(np.float64))


def test_observations_need_not_be_arrays():
    """Otherwise an environment that returns a list or a number fails at every step."""
    assert np.array_equal(ObservationEncoder(Box(-1.0, 1.0, (2,))).encode([0.5, 1]), [0.5, 1.0])
    assert np.array_equal(ObservationEncoder(Box(-1.0, 1.0, ())).encode(0.5), [0.5])
    assert np.array_equal(ObservationEncoder(Discrete(3)).encode(np.array(2)), [0.0, 0.0, 1.0])


def test_discrete_counts_from_its_start():
    """Otherwise Discrete(start=-1) reads another state's weights."""
    encode = ObservationEncoder(Discrete(3, start=-1)).encode
    assert np.array_equal([encode(state) for state in (-1, 0, 1)], np.eye(3))


def test_one_hot_vectors_are_separate():
    """Otherwise a recorded trajectory holds the last state in every row."""
    encode = ObservationEncoder(Discrete(3)).encode
    first = encode(0)
    encode(1)
    assert np.array_equal(first, [1.0, 0.0, 0.0])


@pytest.mark.parametrize(
    "space",
    [
        MultiDiscrete([2, 3]),
        MultiDiscrete([[2, 3], [4, 1]]),
        MultiBinary((2, 3)),
        Dict({"b": Box(-1.0, 1.0, (2, 2)), "a": Tuple((Discrete(3), MultiBinary(2)))}),
        Tuple((Discrete(2), Box(0, 9, (3,), np.int64), Dict({"x": MultiDiscrete([2, 2])}))),
    ],
)
def test_compound_spaces_agree_with_gymnasium(space):
    """Otherwise a policy of ours cannot be moved to FlattenObservation and back."""
    space.seed(1)
    encoder = ObservationEncoder(space)
    for _ in range(20):
        observation = space.sample()
        expected = flatten(space, observation)
        encoded = encoder.encode(observation)
        assert np.array_equal(encoded, expected)
        assert encoded.shape == (encoder.size,)


def test_dict_order_is_the_spaces_not_the_observations():
    """Otherwise an environment that fills its dict in another order swaps the weights."""
    space = Dict({"a": Box(-9.0, 9.0, (1,)), "b": Box(-9.0, 9.0, (1,))})
    observation = OrderedDict(b=np.float32([2.0]), a=np.float32([1.0]))
    assert np.array_equal(ObservationEncoder(space).encode(observation), [1.0, 2.0])


def test_scaling_maps_finite_bounds_to_one():
    """Otherwise scale_observations leaves small dimensions small (MountainCar's velocity)."""
    space = Box(np.float32([-1.2, -0.07]), np.float32([0.6, 0.07]))
    encode = ObservationEncoder(space, scale=True).encode
    assert encode(space.low) == pytest.approx([-1.0, -1.0])
    assert encode(space.high) == pytest.approx([1.0, 1.0])
    assert encode((space.low + space.high) / 2) == pytest.approx([0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (-np.inf, np.inf),
        (0.0, np.inf),
        (-np.inf, 0.0),
        (-LARGEST, LARGEST),
        (-1e38, 1e38),
        (0.5, 0.5),
    ],
)
def test_scaling_leaves_dimensions_without_finite_bounds(low, high):
    """Otherwise they become NaN, or zero where the bound is the largest float."""
    space = Box(np.float32([low, -2.0]), np.float32([high, 2.0]))
    assert np.array_equal(
        ObservationEncoder(space, scale=True).encode(np.float32([0.5, 1.0])), [0.5, 0.5]
    )


def test_scaling_is_for_boxes_inside_compound_spaces_only():
    """Otherwise one-hot entries become -1 and 1, which flag says nothing of."""
    space = Dict({"a": Discrete(2), "b": Box(0.0, 4.0, (1,)), "c": MultiBinary(1)})
    observation = {"a": 0, "b": np.float32([4.0]), "c": np.int8([0])}
    assert np.array_equal(
        ObservationEncoder(space, scale=True).encode(observation), [1.0, 0.0, 1.0, 0.0]
    )


def test_scaling_whole_numbers():
    """Otherwise pixels, whose bounds are known, stay between 0 and 255."""
    encode = ObservationEncoder(Box(0, 255, (1, 2), np.uint8), scale=True).encode
    assert np.array_equal(encode(np.uint8([[0, 255]])), [-1.0, 1.0])


@pytest.mark.parametrize(
    "space",
    [
        Text(3),
        Sequence(Discrete(2)),
        Graph(Box(-1.0, 1.0, (2,)), None),
        OneOf((Discrete(2), Box(-1.0, 1.0, (1,)))),
    ],
)
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: Dict({"x": s}), lambda s: Tuple((s,))])
def test_observations_without_fixed_flat_form_are_refused(space, wrap):
    """Otherwise the first step fails on a worker, far from the mistake."""
    with pytest.raises(UsageError, match=f"observation space {type(space).__name__}"):
        ObservationEncoder(wrap(space))


@pytest.mark.parametrize("scale", [False, True])
def test_encoders_travel(scale):
    """Otherwise policies cannot be sent to workers."""
    encoder = ObservationEncoder(Box(-2.0, 2.0, (3,)), scale)
    copy = pickle.loads(pickle.dumps(encoder))  # noqa: S301
    observation = np.float32([0.3, -1.0, 2.0])
    assert np.array_equal(copy.encode(observation), encoder.encode(observation))
    assert copy.size == 3


# Actions


def test_discrete_takes_the_largest_and_the_first_of_equals():
    """Otherwise ties break by chance, and a zero policy is no function of its seed."""
    head = ActionHead(Discrete(3))
    assert head.decode(np.array([0.1, 0.5, -1.0])) == 1
    assert head.decode(np.zeros(3)) == 0
    assert isinstance(head.decode(np.zeros(3)), int)


def test_discrete_action_counts_from_its_start():
    """Otherwise the environment gets an action outside of its space."""
    head = ActionHead(Discrete(3, start=-1))
    assert [head.decode(row) for row in np.eye(3)] == [-1, 0, 1]


def test_multi_discrete_takes_the_largest_of_each_component():
    """Otherwise one component's outputs decide another's action."""
    space = MultiDiscrete([2, 3], start=[5, 0])
    head = ActionHead(space)
    action = head.decode(np.array([0.0, 1.0, 9.0, 8.0, 10.0]))
    assert head.num_outputs == 5
    assert np.array_equal(action, [6, 2])
    assert action in space


def test_multi_discrete_of_higher_rank():
    """Otherwise grids of switches come out flat or in another order."""
    space = MultiDiscrete([[2, 3], [1, 2]])
    action = ActionHead(space).decode(np.array([0, 1, 0, 0, 1, 0, 1, 0]))
    assert np.array_equal(action, [[1, 2], [0, 0]])
    assert action in space


def test_multi_binary_is_on_from_zero():
    """Otherwise a policy of zeros and one of tiny positive weights differ by a convention."""
    space = MultiBinary((2, 2))
    head = ActionHead(space)
    action = head.decode(np.array([-1e-9, 0.0, 2.0, -3.0]))
    assert np.array_equal(action, [[0, 1], [1, 0]])
    assert action.dtype == space.dtype
    assert head.num_outputs == 4


def test_box_clips_then_casts():
    """Otherwise MuJoCo gets float64 and its returns change."""
    space = Box(-2.0, 2.0, (3,), np.float32)
    action = ActionHead(space).decode(np.array([-5.0, 0.1, 2.5]))
    assert np.array_equal(action, np.float32([-2.0, 0.1, 2.0]))
    assert action.dtype == np.float32


@given(
    outputs=st.lists(st.floats(-1e39, 1e39), min_size=4, max_size=4),
    rescale=st.booleans(),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    bound=st.floats(1e-3, 1e3),
)
def test_box_actions_are_inside_whatever_the_outputs(outputs, rescale, dtype, bound):
    """Otherwise rounding in map or cast puts an action past its bound."""
    space = Box(dtype(-bound / 3), dtype(bound), (2, 2), dtype)
    assert ActionHead(space, rescale).decode(np.array(outputs)) in space


def test_rescaling_maps_one_to_the_bounds():
    """Otherwise outputs must grow to 100 where a bound is 100."""
    space = Box(np.float32([0.0, -100.0]), np.float32([1.0, 300.0]))
    decode = ActionHead(space, rescale=True).decode
    assert np.array_equal(decode(np.array([-1.0, 1.0])), [0.0, 300.0])
    assert np.array_equal(decode(np.array([0.0, 0.0])), [0.5, 100.0])
    assert np.array_equal(decode(np.array([3.0, -7.0])), [1.0, -100.0])


@pytest.mark.parametrize("high", [np.inf, LARGEST])
def test_rescaling_needs_bounds(high):
    """Otherwise every action is infinite."""
    space = Box(np.float32([-1.0, -1.0]), np.float32([1.0, high]))
    with pytest.raises(UsageError, match="finite bounds, which action space Box"):
        ActionHead(space, rescale=True)


def test_unbounded_actions_do_not_overflow():
    """Otherwise a large output becomes an infinite force, and a warning at every step."""
    space = Box(-np.inf, np.inf, (2,), np.float32)
    assert np.array_equal(ActionHead(space).decode(np.array([1e300, -1e300])), [LARGEST, -LARGEST])


def test_whole_numbered_boxes_are_rounded():
    """Otherwise 254.9 and 254.0 are the same action, and zero is twice as wide."""
    space = Box(-3, 255, (4,), np.int16)
    action = ActionHead(space).decode(np.array([254.9, -0.9, 1e9, -1e9]))
    assert np.array_equal(action, [255, -1, 255, -3])
    assert action in space


def test_whole_numbers_beyond_float64_are_refused():
    """Otherwise the bound rounds up in float64 and the cast wraps to a negative action."""
    with pytest.raises(UsageError, match="action space Box"):
        ActionHead(Box(0, np.iinfo(np.int64).max, (1,), np.int64))


@pytest.mark.parametrize("space", [Text(3), Tuple((Discrete(2),)), Dict({"x": Discrete(2)})])
def test_other_action_spaces_are_refused(space):
    """Otherwise the mistake shows only at the first step, on a worker."""
    with pytest.raises(UsageError, match=f"action space {type(space).__name__}") as caught:
        ActionHead(space)
    assert "\n" not in str(caught.value)


def test_heads_travel():
    """Otherwise policies cannot be sent to workers."""
    head = ActionHead(Box(-2.0, 6.0, (2,)), rescale=True)
    copy = pickle.loads(pickle.dumps(head))  # noqa: S301
    assert np.array_equal(copy.decode(np.array([0.3, -0.4])), head.decode(np.array([0.3, -0.4])))
    assert copy.num_outputs == 2
