"""Policies, one file each."""

from distes.policies.gaussian import GaussianNoise
from distes.policies.linear import Linear
from distes.policies.mlp import MLP
from distes.policies.pid import Pid
from distes.policies.sampled import Sampled
from distes.policies.sigmoid import Sigmoid
from distes.policies.softmax import Softmax
from distes.policies.tabular import Tabular
from distes.policies.threshold import Threshold

__all__ = [
    "MLP",
    "GaussianNoise",
    "Linear",
    "Pid",
    "Sampled",
    "Sigmoid",
    "Softmax",
    "Tabular",
    "Threshold",
]
