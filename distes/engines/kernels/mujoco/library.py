"""MuJoCo's library, called from machine code: the very copy that its Python package has loaded.

A model and its data are numbers here, their addresses in this process. Arrays of theirs do not
move while they live, but for those in the arena (contacts, constraints), which are not for kernels.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from distes.engines.kernels.jit import jit, numba
from distes.types import Array

if numba is not None:
    from numba import carray, types
    from numba.extending import intrinsic

    _BOTH = types.void(types.intp, types.intp)
    mj_resetData = types.ExternalFunction("mj_resetData", _BOTH)  # noqa: N816 - MuJoCo's names
    mj_forward = types.ExternalFunction("mj_forward", _BOTH)
    mj_step = types.ExternalFunction("mj_step", _BOTH)
    mj_rnePostConstraint = types.ExternalFunction("mj_rnePostConstraint", _BOTH)  # noqa: N816
    mj_setConst = types.ExternalFunction("mj_setConst", _BOTH)  # noqa: N816

    @intrinsic
    def _point(typing: Any, address: Any) -> Any:  # noqa: ARG001 - numba gives it
        """A pointer to float64, of a whole number."""

        def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = context.get_value_type(signature.return_type)
            return builder.inttoptr(arguments[0], kind)

        return types.CPointer(types.float64)(types.intp), make

else:  # kernels are read, and not run
    carray = _point = mj_resetData = mj_forward = mj_step = mj_rnePostConstraint = mj_setConst = None


@jit
def numbers_at(address: float, size: float) -> Array:
    """An array (size,) of float64 that lies at an address; a float holds every address."""
    return carray(_point(int(address)), (int(size),))


@cache
def link() -> None:
    """Let machine code find MuJoCo's functions by name, in the library that is loaded.

    Raises:
        OSError: there is none.
    """
    import mujoco
    from llvmlite import binding

    folder = Path(mujoco.__file__).parent
    found = [*folder.glob("libmujoco*.so*"), *folder.glob("libmujoco*.dylib")]
    if not found:
        raise OSError(f"no library in {folder}")
    binding.load_library_permanently(str(found[0]))
