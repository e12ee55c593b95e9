"""Linear policies and networks of layers."""

from __future__ import annotations

import numpy as np
from gymnasium.spaces import Box, Discrete

from distes.engines.kernels.actors import layers
from distes.engines.kernels.actors.observations import is_plain, scaling_of
from distes.engines.kernels.jit import jit
from distes.engines.kernels.kernel import Actor, Choose
from distes.policies.network import NetworkPolicy
from distes.policies.spaces import ActionHead
from distes.types import Array


def make_choose(sizes: tuple[int, ...]) -> Choose:
    """Give the outputs."""
    outputs = layers.make_outputs(sizes)

    @jit
    def choose(
        parameters: Array, seen: Array, settings: Array, memory: Array, rng: Array, choice: Array
    ) -> None:
        outputs(parameters, seen, memory, choice)

    return choose


def actor(policy: NetworkPolicy) -> Actor | None:
    """The policy as a kernel, for Discrete and floating-point Box actions."""
    head = policy.head
    if not isinstance(head, ActionHead) or type(head) is not ActionHead:
        return None
    if not is_plain(policy.encoder):
        return None
    space = head.space
    if isinstance(space, Discrete):
        decode, settings = layers.decode_argmax, np.array([float(space.start)])
        actions = 1
    elif isinstance(space, Box):
        decode, found = layers.decode_box, layers.box_settings(head)
        if found is None:
            return None
        settings, actions = found, head.num_outputs
    else:
        return None
    return Actor(
        make_choose,
        decode,
        sizes=layers.sizes_of(policy),
        num_choices=head.num_outputs,
        num_actions=actions,
        settings=settings,
        num_memory=layers.memory_of(policy),
        scaling=scaling_of(policy.encoder),
        exact=not policy.hidden or policy.activation == "relu",  # tanh is not numpy's
    )
