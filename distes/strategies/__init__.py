"""Search strategies, one file each."""

from distes.strategies.cem import CEM
from distes.strategies.external import External
from distes.strategies.icem import ICEM
from distes.strategies.normalized import Normalized
from distes.strategies.random_search import RandomSearch

__all__ = ["CEM", "ICEM", "External", "Normalized", "RandomSearch"]
