"""Where a run came from: versions, command line, revision. Recorded, never compared."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from typing import Any

from distes.search.masking import mask_arguments

PACKAGES = ("distes", "ray", "numpy", "gymnasium", "pandas", "pyarrow", "mujoco", "box2d", "numba")


def read_provenance() -> dict[str, Any]:
    """Describe this process: package versions, Python, command line, git revision."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "command_line": mask_arguments(sys.argv),
        "git_revision": _git_revision(),
    }


def _git_revision() -> str | None:
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - whichever git the user has
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() or None
