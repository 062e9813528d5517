"""numpy arrays and scalars out of a checkpoint, rebuilt from their bytes instead of by numpy's own unpickling.

To allow numpy's own names in a weights-only load trusts the file further than it looks: a pickled dtype sets its own flags,
and one of objects that is allowed takes bytes of the file for pointers. Here a dtype is a code that is looked at, and an
array its bytes.
"""

from __future__ import annotations

import pickle
import re
from typing import Any, Self

import numpy as np

__all__ = ["ALLOWED"]

PLAIN = re.compile(r"[?biufc]\d{0,2}|[SU]\d{1,6}")


class _Dtype:
    """What stands for ``numpy.dtype("f8", False, True)`` while a file is read."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not PLAIN.fullmatch(code):
            raise pickle.UnpicklingError(f"an array of {code!r}, which is no plain number or text")
        self.code = code
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Takes the byte order; fields and flags are for other arrays than these."""
        order, subarray, names, fields = state[1:5]
        if order not in ("<", ">", "=", "|") or any(each is not None for each in (subarray, names, fields)):
            raise pickle.UnpicklingError(f"an array of {self.code} with {state!r:.80}")
        self.order = order

    def real(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class Array(np.ndarray):
    """A numpy array that was read from a checkpoint."""

    def __new__(cls, *_: object) -> Self:
        """Makes an empty one, whatever is asked for; its state brings the rest."""
        return np.empty(0, np.uint8).view(cls)

    def __setstate__(self, state: Any) -> None:
        """Takes shape, dtype and bytes."""
        shape, dtype, in_columns, raw = state[-4:]
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes):
            raise pickle.UnpicklingError(f"an array whose content is a {type(raw).__name__}")
        try:
            super().__setstate__((1, shape, dtype.real(), in_columns, raw))
        except (TypeError, ValueError) as error:
            raise pickle.UnpicklingError(str(error)) from error


def _scalar(dtype: object, raw: object) -> Any:
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes) or len(raw) != dtype.real().itemsize:
        raise pickle.UnpicklingError("a numpy scalar whose content is not its bytes")
    return np.frombuffer(raw, dtype.real())[0]


# by the names that numpy 1 and 2 pickle
ALLOWED: dict[str, Any] = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": Array,
    **{f"numpy.{core}.multiarray._reconstruct": Array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
}
