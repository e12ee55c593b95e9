"""Tables of action probabilities."""

from __future__ import annotations

import numpy as np

from distes.engines.kernels.actors import layers
from distes.engines.kernels.jit import jit
from distes.engines.kernels.kernel import Actor, Choose
from distes.engines.kernels.random import policy_random
from distes.policies.tabular import TabularPolicy
from distes.types import Array


def make_choose(sizes: tuple[int, ...]) -> Choose:
    """Sample from the observation's row, whose numbers above 0 are weights of the actions."""

    @jit
    def choose(
        parameters: Array, seen: Array, settings: Array, memory: Array, rng: Array, choice: Array
    ) -> None:
        count = sizes[0]
        at = int(seen[0]) * count
        total = 0.0
        for j in range(count):
            total += max(parameters[at + j], 0.0)
            memory[j] = total
        if total == 0.0:  # actions are alike where nothing is positive
            for j in range(count):
                total += 1.0
                memory[j] = total
        choice[0] = layers.count_reached(memory[: count - 1], policy_random(rng) * total)

    return choose


def actor(policy: TabularPolicy) -> Actor:
    """The policy as a kernel."""
    return Actor(
        make_choose,
        layers.decode_number,
        sizes=(policy.num_actions,),
        settings=np.array([float(policy.first_action)]),
        num_memory=policy.num_actions,
        samples=True,
        exact=True,
    )
