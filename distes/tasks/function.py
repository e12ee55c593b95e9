"""Tasks that are functions of the parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from distes.errors import UsageError
from distes.policies.base import Policy, PolicySpec
from distes.policies.identity import DirectPolicy
from distes.tasks.base import AnyTask
from distes.tasks.names import accept_names
from distes.types import FloatArray, PositiveInt


@dataclass(frozen=True)
class FunctionTask(AnyTask):
    """Any function of the parameters; its value is the return.

    Attributes:
        function: f(parameters (d,)) -> float. With ``context``, f(parameters, context);
            with ``noisy``, f(parameters, seed); with both, f(parameters, context, seed).
            With ``vectorised``, parameters are (m, d), contexts (m, k), seeds (m,), the
            value (m,); each row must then depend on its own arguments alone.
        num_parameters: d.
        start: (d,) where to start; zeros if not given.
        noisy: the function takes a seed.
        vectorised: the function takes many parameter vectors at once.
        threshold: the value at which the task counts as solved.
    """

    function: Callable[..., Any]
    num_parameters: PositiveInt
    start: tuple[float, ...] | None = None
    noisy: bool = False
    vectorised: bool = False
    threshold: float | None = None

    def __post_init__(self) -> None:
        """Refuse a start of another length."""
        super().__post_init__()
        if self.start is not None and len(self.start) != self.num_parameters:
            raise UsageError(
                f"start has {len(self.start)} numbers, num_parameters is {self.num_parameters}"
            )
        if self.context is not None and not self.contexts.sampled:
            raise UsageError(
                f"context '{self.context}' of a function: it has no reset to read it from; give "
                "uniform with context_low and context_high, or a function that draws it"
            )

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", "function")

    @property
    def reward_threshold(self) -> float | None:
        """As given."""
        return self.threshold

    def _try_reset(self, asked: FloatArray | None) -> tuple[FloatArray, bool]:
        assert asked is not None  # noqa: S101 - others are refused when made
        return asked, True  # as an argument

    def read_names(self) -> dict[str, list[str] | None]:
        """Read attributes of the function: ``parameter_names`` (d,) and ``context_names`` (k,)."""
        sizes = {"parameter_names": self.num_parameters}
        if self.context is not None:
            sizes["context_names"] = self.num_contexts
        return {
            kind: accept_names(getattr(self.function, kind, None), size, kind, self.name)
            for kind, size in sizes.items()
        }

    def build_policy(self, spec: PolicySpec | None) -> Policy:
        """Use the parameters themselves."""
        if spec is not None:
            raise UsageError(f"{self.name} is a function of the parameters: it takes no policy")
        start = np.zeros(self.num_parameters) if self.start is None else np.array(self.start)
        return DirectPolicy(start.astype(np.float64))
