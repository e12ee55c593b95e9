"""Stochastic policies with a network: softmax and sigmoid."""

from __future__ import annotations

import math

import numpy as np

from distes.engines.kernels.actors import layers
from distes.engines.kernels.actors.observations import center_of, factor_of, plain
from distes.engines.kernels.jit import jit
from distes.engines.kernels.kernel import Actor, Choose
from distes.engines.kernels.random import policy_random
from distes.policies.stochastic import BernoulliPolicy, CategoricalPolicy, StochasticNetwork
from distes.types import Array


def categorical(sizes: tuple[int, ...]) -> Choose:
    """Invert the distribution function of a softmax; its outputs lie behind the memory."""
    outputs = layers.outputs_of(sizes)

    @jit
    def choose(
        parameters: Array,
        observation: Array,
        settings: Array,
        memory: Array,
        generator: Array,
        choice: Array,
    ) -> None:
        count = sizes[-1]
        start = len(memory) - count
        out = memory[start:]
        outputs(parameters, observation, memory[:start], out)
        most = out[0]
        for j in range(1, count):
            most = max(most, out[j])
        total = 0.0
        for j in range(count):
            total += math.exp(out[j] - most)
            out[j] = total
        level = policy_random(generator) * total
        chosen = 0
        for j in range(count - 1):
            if level >= out[j]:
                chosen += 1
        choice[0] = chosen

    return choose


def bernoulli(sizes: tuple[int, ...]) -> Choose:
    """The second action with probability σ(z)."""
    outputs = layers.outputs_of(sizes)

    @jit
    def choose(
        parameters: Array,
        observation: Array,
        settings: Array,
        memory: Array,
        generator: Array,
        choice: Array,
    ) -> None:
        start = len(memory) - 1
        out = memory[start:]
        outputs(parameters, observation, memory[:start], out)
        logit = out[0]
        # log(1 + exp(-z)), without overflow.
        softplus = math.log1p(math.exp(-abs(logit))) + max(-logit, 0.0)
        choice[0] = 1.0 if policy_random(generator) < math.exp(-softplus) else 0.0

    return choose


def actor(policy: StochasticNetwork) -> Actor | None:
    """The policy as a kernel, if its actions are Discrete."""
    if isinstance(policy, CategoricalPolicy):
        choosing = categorical
    elif isinstance(policy, BernoulliPolicy):
        choosing = bernoulli
    else:
        return None
    network = policy.network
    if not plain(network.encoder):
        return None
    return Actor(
        choosing,
        layers.numbered,
        sizes=layers.sizes_of(network),
        num_choices=1,
        num_actions=1,
        settings=np.array([float(policy.start)]),
        num_memory=layers.memory_of(network) + network.sizes[-1],
        center=center_of(network.encoder),
        factor=factor_of(network.encoder),
        samples=True,
    )
