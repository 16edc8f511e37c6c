"""What a large data set asks of a machine: memory of the largest CT, rate of reading, and hours and disk of XctNet's.

    python bench/scale.py big [--slices 1500] [--pixels 1024]     peak memory of `raylift prepare` on one such CT
    python bench/scale.py store DATASET [...]                     samples a second of CPU time that the store gives
    python bench/scale.py variants DATASET --seconds 6.5          XctNet's 1,012 cases of 59 variants, extrapolated

DATASET is what `raylift prepare` made; `--seconds` is what one case took (bench/prepare.py says it). The large CT is
drawn: a phantom, repeated and filled in between, with noise; an uncompressed NIfTI in the temporary folder.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

CASES, VARIANTS = 1012, 59  # XctNet 3.1: LIDC-IDRI, and its augmentation
COARSE = 8  # how often a voxel of the phantom is repeated along each axis
FIELD_MM = (600.0, 410.0)  # along the body, and across


def write_big(path: Path, pixels: int, slices: int) -> None:
    """A NIfTI file of a chest of that many voxels, plane by plane, so that writing it takes little memory."""
    import nibabel as nib
    from scipy.ndimage import gaussian_filter1d

    from raylift.data.phantom.torso import torso
    from raylift.types import Grid

    shape = (slices // COARSE, pixels // COARSE, pixels // COARSE)
    spacing = (FIELD_MM[0] / shape[0], FIELD_MM[1] / shape[1], FIELD_MM[1] / shape[2])
    hu = torso(np.random.default_rng(0), grid=Grid.canonical(shape, spacing)).volume.hu
    hu = gaussian_filter1d(hu.astype(np.float32), 2.0, axis=0)  # or its own steps would look like missing slices
    slices = shape[0] * COARSE
    affine = np.diag([-spacing[2] / COARSE, -spacing[1] / COARSE, -spacing[0] / COARSE, 1.0])  # RAS
    header = nib.Nifti1Image(np.zeros((1, 1, 1), np.int16), affine).header
    header.set_data_shape((pixels, pixels, slices))
    header["vox_offset"] = 352
    noise = np.random.default_rng(1)
    with open(path, "wb") as file:
        file.write(header.binaryblock + b"\0" * 4)
        for d in range(slices):
            below, part = min(d // COARSE + 1, len(hu) - 1), d % COARSE / COARSE
            plane = np.rint(hu[d // COARSE] * (1 - part) + hu[below] * part).astype(np.int16)
            plane = plane.repeat(COARSE, 0).repeat(COARSE, 1)
            file.write((plane + noise.integers(-30, 31, plane.shape, np.int16)).astype("<i2").tobytes())


def big(pixels: int, slices: int) -> None:
    """Prints size, seconds and the most memory that preparing such a CT took."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "big.nii"
        write_big(file, pixels, slices)
        words = [sys.executable, "-m", "raylift.cli", "prepare", str(file), "-o", f"{folder}/out", "--quiet"]
        start = perf_counter()
        done = subprocess.run(words, capture_output=True, text=True)
        seconds = perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        size = file.stat().st_size / 2**30
    print(f"{pixels} x {pixels} x {slices} voxels, {size:.2f} GiB: {seconds:.0f} s, {peak:.2f} GiB at most")
    print(done.stdout.strip(), done.stderr.strip())


def store(folders: Sequence[str], samples: int) -> None:
    """Prints samples and MB a second of CPU time of one process, of files that the system has in memory."""
    from raylift.data.store import load_batch, open_dataset

    for folder in folders:
        dataset = open_dataset(folder)
        cases = [dataset.case(name) for name in sorted(dataset.patients)]
        load_batch(cases, views=dataset.views, size=dataset.size)
        start = process_time()
        for k in range(samples):
            load_batch([cases[k % len(cases)]], views=dataset.views, size=dataset.size)
        rate = samples / (process_time() - start)
        mega = _bytes(cases[0].folder, ("ct.npy", "xrays.npy")) / 1e6
        print(
            f"{Path(folder).name}: {dataset.size}³ and {len(dataset.views)} X-rays, {rate:.1f} samples a second, ",
            end="",
        )
        print(f"{rate * mega:.0f} MB a second")


def variants(folder: str, seconds: float, moves: int) -> None:
    """Prints hours of one core and GB for XctNet's scale: variants made while training, and stored."""
    import torch

    from raylift.data.augment import moved
    from raylift.data.store import open_dataset

    dataset = open_dataset(folder)
    cases = [dataset.case(name) for name in sorted(dataset.patients)]
    lots = torch.Generator().manual_seed(0)
    start = process_time()
    for k in range(moves):
        case = cases[k % len(cases)]
        source = case.source()
        hu = torch.from_numpy(np.array(source.hu))
        moved(hu, source.grid, cube=case.grid, beams=case.beams, generator=lots)
    each = (process_time() - start) / moves
    pair = np.mean([_bytes(case.folder, ("ct.npy", "xrays.npy")) for case in cases]) / 1e9
    source = np.mean([_bytes(case.folder, ("source.npy",)) for case in cases]) / 1e9
    told = {"a case, s": seconds, "a variant, s": each, "ct and X-rays, MB": pair * 1e3, "source, MB": source * 1e3}
    told |= {"prepare all, h": CASES * seconds / 3600, "all variants, h": CASES * VARIANTS * each / 3600}
    told |= {"on the fly, GB": CASES * (pair + source), "stored, GB": CASES * VARIANTS * pair}
    print(json.dumps({name: round(float(value), 2) for name, value in told.items()}, indent=1))


def _bytes(folder: Path, names: Sequence[str]) -> int:
    return sum((folder / name).stat().st_size for name in names)


def main(words: Sequence[str] | None = None) -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("big", "store", "variants"))
    parser.add_argument("datasets", nargs="*")
    parser.add_argument("--pixels", type=int, default=1024)
    parser.add_argument("--slices", type=int, default=1500)
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10.0, help="that one case takes to prepare")
    parser.add_argument("--moves", type=int, default=6)
    options = parser.parse_args(words)
    if options.what == "big":
        big(options.pixels, options.slices)
    elif options.what == "store":
        store(options.datasets, options.samples)
    else:
        variants(options.datasets[0], options.seconds, options.moves)


if __name__ == "__main__":
    main()
