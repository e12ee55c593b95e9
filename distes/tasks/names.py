"""What the numbers of observations, contexts and parameters are called in tables and plots."""

from __future__ import annotations

import warnings
from typing import Any

from distes.errors import Notice
from distes.policies.base import Policy
from distes.tasks.base import AnyTask

MAX_NAMED = 1_000
"""Parameters up to which they have names, which a run records."""


def collect_names(task: AnyTask, policy: Policy) -> dict[str, list[str]]:
    """Collect what a run records of names, so that reading it imports nothing.

    Args:
        task: asked by `AnyTask.read_names`.
        policy: built for it; asked by ``name_parameters``, which it need not have.

    Returns:
        ``parameter_names`` (d,) and ``context_names`` (k,), those that there are.
    """
    names = task.read_names()
    size = policy.num_parameters
    if size <= MAX_NAMED and hasattr(policy, "name_parameters"):
        given = policy.name_parameters(names.get("observation_names"))
        names["parameter_names"] = accept_names(given, size, "names", "the policy's parameters")
    found = {kind: names.get(kind) for kind in ("parameter_names", "context_names")}
    return {kind: each for kind, each in found.items() if each is not None}


def accept_names(given: Any, size: int, kind: str, source: str) -> list[str] | None:
    """Take names if they fit; a `Notice` says if they do not, since nothing depends on them.

    Args:
        given: different printable texts, one for each number; None for none.
        size: how many are due.
        kind: of names.
        source: whose they are.

    >>> accept_names(("mass", "length"), 2, "context_names", "Pole-v0")
    ['mass', 'length']
    """
    if given is None:
        return None
    texts = isinstance(given, list | tuple) and all(isinstance(each, str) for each in given)
    if texts and len(given) == size == len(set(given)) and all(map(str.isprintable, given)):
        return list(given)
    said = f"{kind} of {source} are left out: they are not {size} different printable texts"
    warnings.warn(said, Notice, stacklevel=2)
    return None
