"""X-rays out of PNG, TIFF, JPEG and NumPy files, and into 16-bit PNG; such files say nothing of size or side."""

import warnings
from pathlib import Path
from tokenize import TokenError

import numpy as np
from PIL import Image, ImageFile, PngImagePlugin

from raylift import DISCLAIMER
from raylift.errors import BadInput, UnsupportedFormat
from raylift.io.files import MAX_PIXELS, check_voxels, shown, whole_file
from raylift.io.geometry_file import quantum
from raylift.io.picture import Picture, check_pixels
from raylift.types import Xray

GREY = {"L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    MemoryError,
    TokenError,
)


def read(path: Path) -> Picture:
    """The picture in a PNG, TIFF or JPEG, dense is bright as it is shown; of unknown scale."""
    name = shown(path)
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=("PNG", "TIFF", "JPEG")) as image:
                grey = _grey(image, name)
    except Image.DecompressionBombError:
        raise BadInput(f"{name}: declares more than {MAX_PIXELS:,} pixels") from None
    except Image.UnidentifiedImageError:
        raise UnsupportedFormat(f"{name}: not a PNG, TIFF or JPEG picture that can be read") from None
    except BROKEN as error:
        raise BadInput(f"{name}: the picture is damaged or cut off ({type(error).__name__})") from None
    return Picture(pixels=grey, grey=grey)


def _grey(image: Image.Image, name: str) -> np.ndarray:
    check_voxels(image.size, name, MAX_PIXELS)
    if getattr(image, "n_frames", 1) > 1:
        raise BadInput(f"{name}: holds {image.n_frames} pictures; save the one to be used by itself")
    image.load()
    if image.mode in GREY:
        return np.asarray(image).astype(np.float32)
    if image.mode not in ("RGB", "RGBA", "LA", "P"):
        raise BadInput(f"{name}: a picture of kind {image.mode}; an X-ray is 8- or 16-bit grey")
    colours = np.asarray(image.convert("RGBA"))
    red, green, blue, opaque = np.moveaxis(colours, -1, 0)
    if (red != green).any() or (green != blue).any():
        raise BadInput(f"{name}: a picture in colour; an X-ray is 8- or 16-bit grey")
    return np.where(opaque > 127, red, 0).astype(np.float32)  # what is cut out of a picture is black


def read_npy(path: Path) -> Picture:
    """The line integrals in a .npy file of floats (rows, columns)."""
    name = shown(path)
    try:
        held = np.load(path, mmap_mode="r", allow_pickle=False)  # a file that is too short cannot be mapped
    except BROKEN as error:
        raise BadInput(f"{name}: damaged, cut off, or not a plain array ({type(error).__name__})") from None
    if not isinstance(held, np.ndarray) or held.ndim != 2 or held.dtype.kind not in "iuf":
        raise BadInput(f"{name}: an X-ray is an array of numbers with rows and columns")
    check_voxels(held.shape, name, MAX_PIXELS)
    grey = np.array(held, np.float32)
    whole = held.dtype.kind == "f"
    return Picture(pixels=grey, grey=grey, own_scale=whole, values="line_integral" if whole else "unknown")


def write_png(xray: Xray, path: Path) -> None:
    """`xray` as a 16-bit grey PNG, dense is bright; one grey level is `geometry_file.quantum(xray)`."""
    name = xray.source or shown(path)
    check_pixels(xray.pixels, name)
    grey = np.rint(xray.pixels.astype(np.float64) / quantum(xray)).clip(0, 65535).astype(np.uint16)
    remark = PngImagePlugin.PngInfo()
    remark.add_text("Comment", DISCLAIMER)
    with whole_file(path) as beside:
        Image.fromarray(grey).save(beside, format="PNG", pnginfo=remark)
