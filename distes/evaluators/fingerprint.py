"""What of a machine and its libraries could change the last bits of a result."""

from __future__ import annotations

import importlib.metadata
import platform

import numpy as np
from threadpoolctl import threadpool_info

PACKAGES = ("numpy", "gymnasium", "mujoco", "box2d", "numba")


def take_fingerprint() -> dict[str, str]:
    """Describe this process: versions, the processor's features, the BLAS core in use."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    found["machine"] = platform.machine()
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    found["simd"] = " ".join(simd.get("found", ()))
    cores = {
        f"{library.get('internal_api')} {library.get('version')} {library.get('architecture', '')}"
        for library in threadpool_info()
        if library.get("user_api") == "blas" and "numpy" in library.get("filepath", "")
    }
    found["blas"] = ", ".join(sorted(cores))
    return found


def find_differences(one: dict[str, str], other: dict[str, str]) -> dict[str, list[str]]:
    """List what differs, as name: [one, other]; an empty string stands for absence.

    >>> find_differences({"numpy": "2.4"}, {"numpy": "2.4", "numba": "0.62"})
    {'numba': ['', '0.62']}
    """
    return {
        name: [one.get(name, ""), other.get(name, "")]
        for name in sorted(one.keys() | other.keys())
        if one.get(name, "") != other.get(name, "")
    }
