"""Stochastic policies with a network: softmax and sigmoid."""

from __future__ import annotations

import math

import numpy as np

from distes.engines.kernels.actors import layers
from distes.engines.kernels.actors.observations import is_plain, scaling_of
from distes.engines.kernels.jit import jit
from distes.engines.kernels.kernel import Actor, Choose
from distes.engines.kernels.random import policy_random
from distes.policies.stochastic import BernoulliPolicy, CategoricalPolicy, StochasticNetwork
from distes.types import Array


def make_categorical(sizes: tuple[int, ...]) -> Choose:
    """Sample from a softmax by inverting its distribution function, softmax(z)_j ∝ exp(z_j).

    The outputs z lie behind the network's memory.
    """
    outputs = layers.make_outputs(sizes)

    @jit
    def choose(
        parameters: Array, seen: Array, settings: Array, memory: Array, rng: Array, choice: Array
    ) -> None:
        count = sizes[-1]
        start = len(memory) - count
        out = memory[start:]
        outputs(parameters, seen, memory[:start], out)
        most = out[0]
        for j in range(1, count):
            most = max(most, out[j])
        total = 0.0
        for j in range(count):
            total += math.exp(out[j] - most)
            out[j] = total
        choice[0] = layers.count_reached(out[: count - 1], policy_random(rng) * total)

    return choose


def make_bernoulli(sizes: tuple[int, ...]) -> Choose:
    """Sample the second action with probability σ(z) = exp(-log(1 + exp(-z)))."""
    outputs = layers.make_outputs(sizes)

    @jit
    def choose(
        parameters: Array, seen: Array, settings: Array, memory: Array, rng: Array, choice: Array
    ) -> None:
        start = len(memory) - 1
        out = memory[start:]
        outputs(parameters, seen, memory[:start], out)
        logit = out[0]
        # log(1 + exp(-z)), without overflow.
        softplus = math.log1p(math.exp(-abs(logit))) + max(-logit, 0.0)
        choice[0] = 1.0 if policy_random(rng) < math.exp(-softplus) else 0.0

    return choose


def actor(policy: StochasticNetwork) -> Actor | None:
    """The policy as a kernel, if its actions are Discrete."""
    if isinstance(policy, CategoricalPolicy):
        make_choose = make_categorical
    elif isinstance(policy, BernoulliPolicy):
        make_choose = make_bernoulli
    else:
        return None
    network = policy.network
    if not is_plain(network.encoder):
        return None
    return Actor(
        make_choose,
        layers.decode_number,
        sizes=layers.sizes_of(network),
        settings=np.array([float(policy.start)]),
        num_memory=layers.memory_of(network) + network.sizes[-1],
        scaling=scaling_of(network.encoder),
        samples=True,
    )
