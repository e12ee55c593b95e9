"""Search strategies, one file each."""

from distes.strategies.ars import ARS
from distes.strategies.ccmaes import CCMAES
from distes.strategies.cem import CEM
from distes.strategies.cmaes import CMAES
from distes.strategies.creps import CREPS
from distes.strategies.deep_cem import DeepCEM
from distes.strategies.external import External
from distes.strategies.ga import GA
from distes.strategies.gpreps import GPREPS
from distes.strategies.hireps import HiREPS
from distes.strategies.icem import ICEM
from distes.strategies.more import MORE
from distes.strategies.normalized import Normalized
from distes.strategies.openai_es import OpenAIES
from distes.strategies.pgpe import PGPE
from distes.strategies.random_search import RandomSearch
from distes.strategies.reinforce import Reinforce
from distes.strategies.reps import REPS
from distes.strategies.snes import SNES
from distes.strategies.tabular_cem import TabularCEM
from distes.strategies.xnes import XNES

__all__ = [
    "ARS",
    "CCMAES",
    "CEM",
    "CMAES",
    "CREPS",
    "GA",
    "GPREPS",
    "ICEM",
    "MORE",
    "PGPE",
    "REPS",
    "SNES",
    "XNES",
    "DeepCEM",
    "External",
    "HiREPS",
    "Normalized",
    "OpenAIES",
    "RandomSearch",
    "Reinforce",
    "TabularCEM",
]
