"""A network's arithmetic, and what makes actions of its outputs.

Products are summed in the order of the inputs, as `distes.numerics.arithmetic` does it, so
that a linear or ReLU network has the same bits here and there.
"""

from __future__ import annotations

import math

import numpy as np

from distes.kernels.jit import jit
from distes.policies.network import NetworkPolicy
from distes.policies.spaces import ActionHead
from distes.types import Array, FloatArray

BIAS, TANH, WIDTHS = 0, 1, 2
"""Places in a network's sizes: two flags, then the widths of its layers."""


def sizes_of(network: NetworkPolicy) -> tuple[int, ...]:
    """Write a network's shape as whole numbers."""
    return (int(network.bias), int(network.activation == "tanh"), *network.sizes)


def memory_of(network: NetworkPolicy) -> int:
    """Numbers that a network needs for its hidden layers."""
    return 2 * max(network.hidden, default=0)


@jit
def outputs(
    parameters: Array, observation: Array, sizes: tuple[int, ...], memory: Array, out: Array
) -> None:
    """Evaluate a network.

    Args:
        parameters: (d,) layer by layer, weights (in, out) then biases.
        observation: (k,).
        sizes: from `sizes_of`.
        memory: at least `memory_of` numbers, written.
        out: (o,) written.
    """
    last = len(sizes) - WIDTHS - 1
    room = len(memory) // 2
    at = 0
    values = observation
    for layer in range(last):
        fan_in, fan_out = sizes[WIDTHS + layer], sizes[WIDTHS + layer + 1]
        target = out
        if layer < last - 1:
            target = memory[:room] if layer % 2 == 0 else memory[room:]
        for j in range(fan_out):
            target[j] = 0.0
        # Four rows at once: each target is read and written once for them, and still gets its
        # products one by one in their order.
        whole = fan_in - fan_in % 4
        for i in range(0, whole, 4):
            a, b, c, d = values[i], values[i + 1], values[i + 2], values[i + 3]
            first = at + i * fan_out
            rows = parameters[first : first + 4 * fan_out]
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
        at += fan_in * fan_out
        if sizes[BIAS]:
            for j in range(fan_out):
                target[j] += parameters[at + j]
            at += fan_out
        if layer < last - 1:
            if sizes[TANH]:
                for j in range(fan_out):
                    target[j] = math.tanh(target[j])
            else:
                for j in range(fan_out):
                    target[j] = max(target[j], 0.0)
        values = target


@jit
def argmax(choice: Array, settings: Array, action: Array) -> None:
    """Take the first of the largest; settings begin with the number of the first action.

    As for numpy, NaN is the largest.
    """
    best, most = 0, choice[0]
    for j in range(1, len(choice)):
        if not choice[j] <= most and not math.isnan(most):
            best, most = j, choice[j]
    action[0] = settings[0] + best


@jit
def numbered(choice: Array, settings: Array, action: Array) -> None:
    """The choice is an action's number; settings begin with that of the first."""
    action[0] = settings[0] + choice[0]


@jit
def box(choice: Array, settings: Array, action: Array) -> None:
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
    """Whether float32, whether to scale; then least, greatest, middle, half width of each.

    None where an action is not of floating-point numbers.
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
