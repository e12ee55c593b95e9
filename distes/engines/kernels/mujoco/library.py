"""MuJoCo's library, called from machine code: the very copy that its Python package has loaded.

A model and its data are numbers here, their addresses in this process. Arrays of theirs do not
move while they live, but for those in the arena (contacts, constraints), which are not for kernels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distes.engines.kernels.jit import jit, numba
from distes.types import Array

if numba is not None:
    from numba import carray, types
    from numba.extending import intrinsic

    _BOTH = types.void(types.intp, types.intp)
    reset_data = types.ExternalFunction("mj_resetData", _BOTH)
    forward = types.ExternalFunction("mj_forward", _BOTH)
    advance = types.ExternalFunction("mj_step", _BOTH)
    find_contact_forces = types.ExternalFunction("mj_rnePostConstraint", _BOTH)
    set_constants = types.ExternalFunction("mj_setConst", _BOTH)

    @intrinsic  # type: ignore[untyped-decorator]
    def _point(typing: Any, address: Any) -> Any:  # noqa: ARG001 - numba gives it
        """A pointer to float64, of a whole number."""

        def make(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = context.get_value_type(signature.return_type)
            return builder.inttoptr(arguments[0], kind)

        return types.CPointer(types.float64)(types.intp), make

else:  # kernels are read, and not run
    carray = _point = None
    reset_data = forward = advance = find_contact_forces = set_constants = None


@jit
def numbers_at(address: float, size: float) -> Array:
    """An array (size,) of float64 that lies at an address; a float holds every address."""
    found: Array = carray(_point(int(address)), (int(size),))
    return found


@jit
def table_at(address: float, size: float, width: int) -> Array:
    """The same as a table (size / width, width)."""
    found: Array = carray(_point(int(address)), (int(size) // width, width))
    return found


def _link() -> bool:
    """Let machine code find MuJoCo's functions by name, in the library that is loaded; if it is."""
    try:
        import mujoco
        from llvmlite import binding
    except ImportError:
        return False
    folder = Path(mujoco.__file__).parent
    found = [*folder.glob("libmujoco*.so*"), *folder.glob("libmujoco*.dylib")]
    if found:
        binding.load_library_permanently(str(found[0]))
    return bool(found)


LINKED = _link()
"""Whether what calls MuJoCo can be compiled, or loaded. This is done at import: the process that
compiles for others makes no kernel."""
