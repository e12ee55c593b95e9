"""How a policy's encoder scales observations."""

from __future__ import annotations

from gymnasium.spaces import Box, MultiBinary

from distes.policies.spaces import ObservationEncoder, scaling
from distes.types import FloatArray


def plain(encoder: ObservationEncoder) -> bool:
    """Whether observations are encoded as the numbers they consist of, and no otherwise."""
    return type(encoder) is ObservationEncoder and isinstance(encoder.space, Box | MultiBinary)


def center_of(encoder: ObservationEncoder) -> FloatArray | None:
    """What is subtracted first, (k,); None where nothing is scaled."""
    found = scaling(encoder.space) if encoder.scale else None
    return None if found is None else found[0]


def factor_of(encoder: ObservationEncoder) -> FloatArray | None:
    """What is multiplied with then, (k,); None where nothing is scaled."""
    found = scaling(encoder.space) if encoder.scale else None
    return None if found is None else found[1]
