"""Policies, one file each."""

from distes.policies.linear import Linear
from distes.policies.mlp import MLP

__all__ = ["MLP", "Linear"]
