"""Environments of the project itself, one file each, known to Gymnasium as ``distes/...``.

A module here says in ``ENVIRONMENTS`` what it registers: id -> arguments of
`gymnasium.register`, the entry point as text. Importing this package registers them all.
"""

from __future__ import annotations

import importlib
import pkgutil

import gymnasium as gym

ENVIRONMENTS = {
    name: arguments
    for module in pkgutil.iter_modules(__path__)
    for name, arguments in getattr(
        importlib.import_module(f"distes.tasks.envs.{module.name}"), "ENVIRONMENTS", {}
    ).items()
}
"""Everything that is registered."""

for _name, _arguments in ENVIRONMENTS.items():
    gym.register(_name, **_arguments)


def list_registered() -> list[str]:
    """List the ids of all environments that Gymnasium knows now, those of distes among them."""
    return sorted(gym.registry)
