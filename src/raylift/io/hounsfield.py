"""Stored numbers to int16 HU: rounded, clipped to a range that no body leaves, and never out of a NaN."""

import numpy as np

from raylift.errors import BadInput

HU_RANGE = (-1024, 31743)  # ours: air, and the top of a 15-bit scale whose zero is at -1024


def to_int16(values: np.ndarray, name: str, hu_range: tuple[int, int] = HU_RANGE) -> np.ndarray:
    """`values` (HU) as int16, rounded and clipped; what cannot be a number is refused, not turned into 0.

    >>> to_int16(np.array([-3000.0, 0.4, 40000.0]), "a volume").tolist()
    [-1024, 0, 31743]
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int(np.size(values) - np.isfinite(values).sum())
        raise BadInput(f"{name}: {bad} values are not finite (NaN or infinite); fill them first")
    if values.dtype.kind not in "iuf":
        raise BadInput(f"{name}: values of type {values.dtype} are no HU")
    if values.dtype.kind == "f":
        values = np.rint(values)
    return np.clip(values, *hu_range).astype(np.int16)


def rescaled(stored: np.ndarray, slope: float, intercept: float, name: str) -> np.ndarray:
    """`stored * slope + intercept` as int16 HU, rounded and clipped."""
    if not (np.isfinite(slope) and np.isfinite(intercept)) or slope == 0:
        raise BadInput(f"{name}: rescale slope {slope} and intercept {intercept} give no HU")
    whole = float(slope).is_integer() and float(intercept).is_integer() and stored.dtype.kind in "iu"
    if whole and max(abs(slope), abs(intercept)) < 2**20:
        fits = stored.dtype.itemsize <= 2 and abs(slope) * 2**16 + abs(intercept) < 2**31
        return to_int16(stored.astype(np.int32 if fits else np.int64) * int(slope) + int(intercept), name)
    return to_int16(stored.astype(np.float64) * slope + intercept, name)


def check_is_ct(hu: np.ndarray, name: str, was_float: bool = False) -> None:
    """Raises where a volume holds one value only, or floats of the order of 1: HU would span thousands."""
    low, high = int(hu.min()), int(hu.max())
    if low == high:
        raise BadInput(f"{name}: every voxel is {low}; this is no CT")
    if was_float and high - low <= 2:
        raise BadInput(f"{name}: the values lie between {low} and {high}; a CT in Hounsfield units is needed")
