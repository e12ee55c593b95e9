"""Episodes that are run together by a compiled program, and what comes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from distes.engines.base import not_finite
from distes.signals import is_request_to_stop
from distes.types import Array, FloatArray, IntArray

if TYPE_CHECKING:
    from distes.engines.kernels.kernel import Actor, Kernel


@dataclass(frozen=True, eq=False)
class Resets:
    """Episodes after their resets, which stay as they are.

    Attributes:
        states: (m, s).
        generators: (m, 4) words.
        observations: (m, k).
        contexts: (m, c) that the environment shows, c = 0 for none.
    """

    states: FloatArray
    generators: Array
    observations: FloatArray
    contexts: FloatArray

    def select(self, chosen: Array) -> Resets:
        """Some of them, by a mask (m,)."""
        parts = (self.states, self.generators, self.observations, self.contexts)
        return Resets(*(part[chosen] for part in parts))


@dataclass(frozen=True, eq=False)
class Conditions:
    """What all episodes of a batch share.

    Attributes:
        normal: (2, k) mean and deviation of observations, or (0, k).
        about: (1, k) centre of the observations' moments, or (0, k) for none.
        limit: steps, 0 for none.
    """

    normal: FloatArray
    about: FloatArray
    limit: int


@dataclass(frozen=True, eq=False)
class Batch:
    """Episodes that are run together.

    Attributes:
        resets: of the episodes.
        seeds: (m,) from which policies sample.
        parameters: (p, d).
        rows: (m,) whose parameters each episode has.
        conditions: of all.
    """

    resets: Resets
    seeds: IntArray
    parameters: FloatArray
    rows: IntArray
    conditions: Conditions

    def select(self, chosen: Array) -> Batch:
        """Some of them, by a mask (m,)."""
        resets, seeds, rows = self.resets.select(chosen), self.seeds[chosen], self.rows[chosen]
        return Batch(resets, seeds, self.parameters, rows, self.conditions)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """How episodes went.

    Attributes:
        returns: (m,).
        lengths: (m,) steps.
        terminated: (m,) bool.
        info: (m, i) in the order of the kernel's names.
        moments: (m, 2k) sums and sums of squares about a centre, or (m, 0).
        raised: what the kernel raised, or that it showed what is not finite, by the number of
            the episode; it has no results.
    """

    returns: FloatArray
    lengths: IntArray
    terminated: Array
    info: FloatArray
    moments: FloatArray
    raised: dict[int, BaseException] = field(default_factory=dict)

    def select(self, chosen: Array) -> Outcomes:
        """Those of some episodes that did not raise, by a mask (m,)."""
        parts: Any = (self.returns, self.lengths, self.terminated, self.info, self.moments)
        return Outcomes(*(part[chosen] for part in parts))


@dataclass(frozen=True, eq=False)
class Records:
    """All that was seen and done, episodes end to end.

    Attributes:
        ends: (m,) where each episode ends.
        observations: (T, k).
        choices: (T, c) choices of policies that sample, else actions.
        rewards: (T,).
        last_observations: (m, k).
    """

    ends: IntArray
    observations: FloatArray
    choices: FloatArray
    rewards: FloatArray
    last_observations: FloatArray


class BatchRunner:
    """Runs batches of episodes with one kernel and one actor.

    Args:
        program: from `distes.engines.kernels.program.load_program`.
        kernel: of the environment.
        actor: of the policy.
        width: of an observation, k.
    """

    def __init__(self, program: Any, kernel: Kernel, actor: Actor, width: int) -> None:
        self._program, self._kernel, self._actor = program, kernel, actor
        self._width = width
        self._constants = _to_compiled(kernel.constants)
        self._settings = _to_compiled(actor.settings)
        self._scaling = np.zeros((0, width)) if actor.scaling is None else actor.scaling
        self._shape = np.array([actor.num_memory, actor.num_choices, actor.num_actions])

    def reset(self, seeds: IntArray, imposed: FloatArray | None) -> Resets:
        """Reset episodes, (m,) seeds, with contexts (m, c) if any are imposed."""
        from distes.engines.kernels.random import ENVIRONMENT_WORDS  # it loads numba

        kernel, count = self._kernel, len(seeds)
        states = np.zeros((count, kernel.num_states))
        generators = np.zeros((count, ENVIRONMENT_WORDS), np.uint64)
        observations = np.zeros((count, self._width))
        contexts = np.zeros((count, kernel.num_contexts))
        asked = np.zeros((count, 0)) if imposed is None else np.ascontiguousarray(imposed)
        given = (seeds, asked, self._constants)
        self._program.begin(*given, states, generators, observations, contexts)
        kernel.correct_first(states, observations)
        return Resets(states, generators, observations, contexts)

    def run(self, batch: Batch) -> Outcomes:
        """Run episodes to their ends."""
        none, lengths = np.zeros((0, 0)), np.zeros(len(batch.seeds), np.int64)
        records = Records(lengths[:0], none, none, np.zeros(0), batch.resets.observations.copy())
        return self._run_program(batch, lengths, records)

    def record(self, batch: Batch, lengths: IntArray) -> Records:
        """Run episodes again, whose lengths are known, and keep all that is seen and done."""
        total = int(lengths.sum())
        # Choices are recorded of policies that sample, actions of others.
        actor = self._actor
        records = Records(
            ends=np.cumsum(lengths),
            observations=np.zeros((total, self._width)),
            choices=np.zeros((total, actor.num_choices if actor.samples else actor.num_actions)),
            rewards=np.zeros(total),
            last_observations=batch.resets.observations.copy(),
        )
        self._run_program(batch, lengths.copy(), records)
        return records

    def _run_program(self, batch: Batch, lengths: IntArray, records: Records) -> Outcomes:
        """Run episodes, and fill records where they have room."""
        count, recording = len(batch.seeds), len(records.ends) > 0
        conditions = batch.conditions
        about = _to_compiled(conditions.about[:0] if recording else conditions.about)
        out = Outcomes(
            returns=np.zeros(count),
            lengths=lengths,
            terminated=np.zeros(count, bool),
            info=np.full((count, len(self._kernel.info_names)), np.nan),
            moments=np.zeros((count, 2 * self._width * len(about))),
        )
        states, generators = batch.resets.states.copy(), batch.resets.generators.copy()
        parameters = _to_compiled(batch.parameters)
        at = 0
        while at < count:
            try:
                self._program.run(
                    *(states[at:], generators[at:], records.last_observations[at:]),
                    *(batch.seeds[at:], parameters, batch.rows[at:]),
                    *(self._constants, self._settings, self._scaling),
                    *(conditions.normal, about, conditions.limit, self._shape),
                    *(out.returns[at:], out.lengths[at:], out.terminated[at:]),
                    *(out.info[at:], out.moments[at:]),
                    *(records.ends, records.observations, records.choices, records.rewards),
                )
                break
            except BaseException as error:
                # What is recorded went well the first time.
                if recording or is_request_to_stop(error):
                    raise
                # A length is written when its episode ends, and none is 0.
                at += int(np.argmin(np.abs(out.lengths[at:])))
                out.raised[at] = error
                at += 1
        for number in np.flatnonzero(out.lengths < 0).tolist():
            step = -1 - int(out.lengths[number])
            out.raised[number] = not_finite(records.last_observations[number], step)
        return out


def _to_compiled(values: FloatArray) -> FloatArray:
    """Make an array of the one kind that is compiled for: Ray hands out some read-only."""
    return np.require(values, requirements=["C", "W"])
