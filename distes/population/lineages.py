"""Candidates that descend from each other: each is a chain of numbered mutations.

Such et al. (2017), "Deep neuroevolution: genetic algorithms are a competitive alternative for
training deep neural networks", section 3.1: whoever knows the first parameters and the chain
has the candidate, whatever its size, and from its parent it is one mutation away.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from distes.errors import UsageError
from distes.seeds import noise, noise_key
from distes.types import Array, FloatArray, IntArray

KEPT_BYTES = 256 * 2**20
"""Most memory of a process for ancestors: what is dropped is rebuilt when it is needed."""

UNCHANGED = -1
"""In a chain: a generation that its candidate went through without a mutation."""

_ANCESTORS: OrderedDict[tuple[object, ...], FloatArray] = OrderedDict()


@dataclass(frozen=True, eq=False)
class Lineages:
    """Mutated copies of parents, behind some of the parents themselves.

    The mutation of row r in generation g is ``deviations[g]`` times row r of that generation's
    noise. Candidate i of the newest generation has row i.

    Attributes:
        start: (d,) where all chains begin.
        seed: the run's, from which each generation's noise follows.
        deviations: (g + 1,) of the mutations of each generation up to the newest, g.
        chains: (p, g) the parents' rows in each generation before; `UNCHANGED` for none.
        parents: (n,) whose child each candidate is, an index of ``chains``.
        num_unchanged: the first candidates, which are their parents.
    """

    start: FloatArray
    seed: int
    deviations: FloatArray
    chains: IntArray
    parents: IntArray
    num_unchanged: int = 0
    uses_context: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse chains that nothing can be made of.

        Raises:
            UsageError: a chain's ancestor is missing.
        """
        links, known = self.chains.shape[1], len(self.deviations) - 1
        if links != known:
            raise UsageError(
                f"a chain of {links} mutations in generation {known}: an ancestor is missing"
            )
        if len(self.parents) and not 0 <= self.parents.min() <= self.parents.max() < len(
            self.chains
        ):
            raise UsageError(
                f"a child of parent {self.parents.max()} of {len(self.chains)}: an ancestor is "
                "missing"
            )

    @property
    def num_parameters(self) -> int:
        return len(self.start)

    def draw(self, candidates: IntArray, contexts: Array | None = None) -> FloatArray:
        """Rebuild the candidates' parameters, (m, d)."""
        out = np.empty((len(candidates), self.num_parameters))
        parents = self.parents[candidates]
        for parent in np.unique(parents):
            out[parents == parent] = self._rebuild(self.chains[parent].tolist())
        mutated = candidates >= self.num_unchanged
        out[mutated] += self._mutate(len(self.deviations) - 1, candidates[mutated])
        return out

    def extend(self, candidates: IntArray) -> IntArray:
        """Chains of candidates of this generation, (m, g + 1), for the next one's parents."""
        rows = np.where(candidates < self.num_unchanged, UNCHANGED, candidates)
        return np.column_stack([self.chains[self.parents[candidates]], rows])

    def _mutate(self, generation: int, rows: IntArray) -> FloatArray:
        key = noise_key(self.seed, generation)
        steps: FloatArray = self.deviations[generation] * noise(key, rows, self.num_parameters)
        return steps

    def _rebuild(self, chain: list[int]) -> FloatArray:
        """Give a chain's parameters, (d,), from the nearest ancestor that is still known."""
        known = 0
        parameters: FloatArray = self.start
        for length in range(len(chain), 0, -1):  # mostly the first, or the second
            found = _ANCESTORS.get(self._name(chain, length))
            if found is not None:
                known, parameters = length, found
                break
        for generation, row in enumerate(chain[known:], known):
            if row != UNCHANGED:
                parameters = parameters + self._mutate(generation, np.array([row]))[0]
        name = self._name(chain, len(chain))
        _ANCESTORS[name] = parameters
        _ANCESTORS.move_to_end(name)
        while len(_ANCESTORS) * parameters.nbytes > KEPT_BYTES and len(_ANCESTORS) > 1:
            _ANCESTORS.popitem(last=False)
        return parameters

    def _name(self, chain: list[int], length: int) -> tuple[object, ...]:
        deviations = self.deviations[:length].tobytes()
        return (self._origin, deviations, *chain[:length])

    @cached_property
    def _origin(self) -> tuple[int, bytes]:
        return self.seed, hashlib.sha256(self.start.tobytes()).digest()
