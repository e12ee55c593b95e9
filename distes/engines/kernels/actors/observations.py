"""How a policy's encoder scales observations."""

from __future__ import annotations

import numpy as np
from gymnasium.spaces import Box, MultiBinary

from distes.policies.spaces import ObservationEncoder, scaling
from distes.types import FloatArray


def is_plain(encoder: ObservationEncoder) -> bool:
    """Whether observations are encoded as the numbers they consist of, and no otherwise."""
    return type(encoder) is ObservationEncoder and isinstance(encoder.space, Box | MultiBinary)


def scaling_of(encoder: ObservationEncoder) -> FloatArray | None:
    """Give what is subtracted first and multiplied with then, (2, k); None for neither."""
    found = scaling(encoder.space) if encoder.scale else None
    return None if found is None else np.array(found)
