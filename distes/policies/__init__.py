"""Policies, one file each."""

from distes.policies.linear import Linear
from distes.policies.mlp import MLP
from distes.policies.pid import Pid
from distes.policies.threshold import Threshold

__all__ = ["MLP", "Linear", "Pid", "Threshold"]
