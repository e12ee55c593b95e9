"""A network's arithmetic, and what makes actions of its outputs.

Products are summed in the order of the inputs, as `distes.policies.products` does it, so
that a linear or ReLU network has the same bits here and there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate, pairwise

import numpy as np

from distes.engines.kernels.jit import jit
from distes.policies.network import NetworkPolicy
from distes.policies.spaces import ActionHead
from distes.types import Array, FloatArray

Evaluate = Callable[[Array, Array, Array, Array], None]
Layer = Callable[[Array, Array, Array], None]
Rest = Callable[[Array, Array, Array, Array, Array], None]

BIAS, TANH, WIDTHS = 0, 1, 2
"""Places in a network's sizes: two flags, then the widths of its layers."""


def sizes_of(network: NetworkPolicy) -> tuple[int, ...]:
    """Write a network's shape as whole numbers."""
    return (int(network.bias), int(network.activation == "tanh"), *network.sizes)


def memory_of(network: NetworkPolicy) -> int:
    """Count the numbers that a network needs for its hidden layers."""
    return 2 * max(network.hidden, default=0)


def make_outputs(sizes: tuple[int, ...]) -> Evaluate:
    """Make the function that evaluates a network, (parameters, observation, memory, out).

    It takes at least `memory_of` numbers of memory. Its sizes, from `sizes_of`, are constants of
    the machine code, which is faster by a fifth for it.
    """
    bias, tanh, widths = bool(sizes[BIAS]), bool(sizes[TANH]), sizes[WIDTHS:]
    room = max(widths[1:-1], default=0)
    shapes = list(pairwise(widths))
    at = [0, *accumulate((fan_in + bias) * fan_out for fan_in, fan_out in shapes)]
    evaluate = _end_with(_make_layer(at[-2], *shapes[-1], bias, activate=False, tanh=False))
    for i in reversed(range(len(shapes) - 1)):
        layer = _make_layer(at[i], *shapes[i], bias, activate=True, tanh=tanh)
        evaluate = _put_before(layer, evaluate)

    @jit
    def outputs(parameters: Array, observation: Array, memory: Array, out: Array) -> None:
        evaluate(parameters, observation, memory[:room], memory[room : 2 * room], out)

    return outputs


def _end_with(layer: Layer) -> Rest:
    """Let a layer give the outputs."""

    @jit
    def evaluate(parameters: Array, values: Array, one: Array, other: Array, out: Array) -> None:
        layer(parameters, values, out)

    return evaluate


def _put_before(layer: Layer, rest: Rest) -> Rest:
    """Put a layer before others, which have the two halves of the memory in turn."""

    @jit
    def evaluate(parameters: Array, values: Array, one: Array, other: Array, out: Array) -> None:
        layer(parameters, values, one)
        rest(parameters, one, other, one, out)

    return evaluate


def _make_layer(
    at: int, fan_in: int, fan_out: int, bias: bool, *, activate: bool, tanh: bool
) -> Layer:
    """Make a layer, (parameters, values, target), whose weights begin at a place."""
    whole = fan_in - fan_in % 4
    biases = at + fan_in * fan_out

    @jit
    def layer(parameters: Array, values: Array, target: Array) -> None:
        for j in range(fan_out):
            target[j] = 0.0
        # Four rows at once: each target is read and written once for them, and still gets its
        # products one by one in their order.
        for i in range(0, whole, 4):
            a, b, c, d = values[i], values[i + 1], values[i + 2], values[i + 3]
            rows = parameters[at + i * fan_out : at + (i + 4) * fan_out]
            for j in range(fan_out):
                total = target[j] + a * rows[j]
                total += b * rows[fan_out + j]
                total += c * rows[2 * fan_out + j]
                target[j] = total + d * rows[3 * fan_out + j]
        for i in range(whole, fan_in):
            value = values[i]
            row = parameters[at + i * fan_out : at + (i + 1) * fan_out]
            for j in range(fan_out):
                target[j] += value * row[j]
        if bias:
            for j in range(fan_out):
                target[j] += parameters[biases + j]
        if activate:
            if tanh:
                for j in range(fan_out):
                    target[j] = math.tanh(target[j])
            else:
                for j in range(fan_out):
                    target[j] = max(target[j], 0.0)

    return layer


@jit
def count_reached(steps: Array, level: float) -> int:
    """Count the steps that a level reaches: with running sums, the outcome that it falls on."""
    reached = 0
    for step in steps:
        if level >= step:
            reached += 1
    return reached


@jit
def decode_argmax(choice: Array, settings: Array, action: Array) -> None:
    """Take the first of the largest; settings begin with the number of the first action.

    As for numpy, NaN is the largest.
    """
    best, most = 0, choice[0]
    for j in range(1, len(choice)):
        if not choice[j] <= most and not math.isnan(most):
            best, most = j, choice[j]
    action[0] = settings[0] + best


@jit
def decode_number(choice: Array, settings: Array, action: Array) -> None:
    """Take the choice as an action's number; settings begin with that of the first."""
    action[0] = settings[0] + choice[0]


@jit
def decode_box(choice: Array, settings: Array, action: Array) -> None:
    """Scale, clip and round; settings are those of `box_settings`."""
    size = len(choice)
    single = settings[0] != 0.0
    for j in range(size):
        value = choice[j]
        if settings[1] != 0.0:
            value = value * settings[2 + 3 * size + j] + settings[2 + 2 * size + j]
        value = min(max(value, settings[2 + j]), settings[2 + size + j])
        action[j] = np.float64(np.float32(value)) if single else value


def box_settings(head: ActionHead) -> FloatArray | None:
    """Write what `decode_box` reads of an action space; None where it is not of floats.

    Returns:
        (2 + 4a,): whether float32, whether to scale; then least, greatest, middle and half width
        of each number of an action.
    """
    space = head.space
    dtype = np.dtype(space.dtype)
    if dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        return None
    limit = float(np.finfo(dtype).max)
    low = np.maximum(space.low.astype(np.float64).reshape(-1), -limit)  # type: ignore[attr-defined]
    high = np.minimum(space.high.astype(np.float64).reshape(-1), limit)  # type: ignore[attr-defined]
    flags = [float(dtype == np.float32), float(head.rescale)]
    middle, half = (low + high) / 2.0, (high - low) / 2.0
    return np.concatenate([flags, low, high, middle, half])
