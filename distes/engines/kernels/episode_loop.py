"""Whole episodes in machine code: the text that is compiled with an environment and a policy.

`program` puts a header before these functions, which names the kernel's and the actor's
functions (``reset``, ``observe``, ``step``, ``show``, ``inform``, ``choose``,
``decode``) and ``SAMPLES``; so this module is read rather than imported.
"""

# The header defines what is missing here.
# mypy: ignore-errors

from __future__ import annotations

import numpy as np
from numba import njit

from distes.engines.kernels.random import seed_environment, seed_policy


@njit(cache=True, error_model="numpy", nogil=True)
def begin(seeds, imposed, constants, states, generators, observations, contexts):
    """Reset episodes.

    Args:
        seeds: (m,) int64.
        imposed: (m, c) contexts, c = 0 for none.
        constants: of the kernel.
        states: (m, s) zeros, written.
        generators: (m, 4) uint64, written.
        observations: (m, k) written.
        contexts: (m, c') written, if the environment shows any.
    """
    for i in range(len(seeds)):
        seed_environment(generators[i], seeds[i])
        reset(states[i], generators[i], imposed[i], constants)
        observe(states[i], constants, observations[i])
        if contexts.shape[1]:
            show(states[i], constants, contexts[i])


@njit(cache=True, error_model="numpy", nogil=True)
def run(
    states,
    generators,
    observations,
    seeds,
    parameters,
    rows,
    constants,
    settings,
    scaling,
    normal,
    about,
    limit,
    shape,
    returns,
    lengths,
    ended,
    info,
    moments,
    ends,
    record,
    record_choices,
    record_rewards,
):
    """Run episodes from their resets to their ends.

    Args:
        states, generators, observations: as `begin` left them, used up.
        seeds: (m,) from which the policy's generators follow.
        parameters: (p, d).
        rows: (m,) which of them an episode has.
        constants: of the kernel.
        settings: of the actor.
        scaling: (2, k) centre and factor of observations, or (0, k).
        normal: (2, k) mean and deviation of observations, or (0, k).
        about: (1, k) centre of the moments, or (0, k) for none.
        limit: steps, 0 for none.
        shape: (3,) memory, choices, actions.
        returns: (m,) written.
        lengths: (m,) written.
        ended: (m,) bool, terminated, written.
        info: (m, i) written.
        moments: (m, 2k) sums and sums of squares, written.
        ends: (m,) where an episode's records end, or (0,) for none.
        record: (T, k) observations, written; record_choices: (T, c); record_rewards: (T,).
    """
    size = observations.shape[1]
    memory = np.zeros(shape[0])
    choice = np.zeros(shape[1])
    action = np.zeros(shape[2])
    features = np.zeros(size)
    policy_generator = np.zeros(8, np.uint64)
    records = len(ends) > 0
    for i in range(len(seeds)):
        state, generator, seen = states[i], generators[i], observations[i]
        theta = parameters[rows[i]]
        if len(scaling):
            _scale(seen, scaling)
        memory[:] = 0.0
        if SAMPLES:
            seed_policy(policy_generator, seeds[i])
        at = ends[i] - lengths[i] if records else 0
        total = 0.0
        steps = 0
        over = False
        while True:
            if records:
                record[at + steps, :] = seen
            if len(about):
                _add_moments(seen, about[0], moments[i], steps == 0)
            shown = seen
            if len(normal):
                shown = features
                for j in range(size):
                    features[j] = (seen[j] - normal[0, j]) / normal[1, j]
            choose(theta, shown, settings, memory, policy_generator, choice)
            decode(choice, settings, action)
            reward, over = step(state, action, generator, constants)
            total += reward
            if records:
                record_choices[at + steps, :] = choice if SAMPLES else action
                record_rewards[at + steps] = reward
            steps += 1
            observe(state, constants, seen)
            if len(scaling):
                _scale(seen, scaling)
            if over or steps == limit:
                break
        returns[i] = total
        lengths[i] = steps
        ended[i] = over
        if info.shape[1]:
            inform(state, constants, info[i])


@njit(error_model="numpy", nogil=True)
def _scale(seen, scaling):
    """Encode an observation: this is what is recorded, and what moments are of."""
    for j in range(len(seen)):
        seen[j] = (seen[j] - scaling[0, j]) * scaling[1, j]


@njit(error_model="numpy", nogil=True)
def _add_moments(seen, about, moments, first):
    """Add an observation to the sums, in the order of the steps."""
    size = len(about)
    for j in range(size):
        value = seen[j] - about[j]
        if first:
            moments[j], moments[size + j] = value, value * value
        else:
            moments[j] += value
            moments[size + j] += value * value
