"""What a net refuses when it is built, in words for the person who set the option."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from raylift.errors import BadInput, unknown_name


def halved(net: str, size: int, times: int) -> int:
    """`size` halved `times` times, or an error where that is no whole number."""
    if size < 2**times or size % 2**times:
        raise BadInput(f"{net}: a size of {size} cannot be halved {times} times; take a multiple of {2**times}")
    return size >> times


def one_of(net: str, option: str, value: str, known: Sequence[str]) -> str:
    """`value`, or an error that offers the nearest of `known`."""
    if value not in known:
        raise unknown_name(f"{option} of {net}", value, known)
    return value


def refuse_narrow_bf16(net: nn.Module) -> None:
    """Make `net` refuse to train on a CPU in bf16 where a volume has a side shorter than the kernel that crosses it.

    oneDNN 3.12 (torch 2.13, AVX-512) gets that kernel's gradient wrong there, by any amount, and may write past it.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv3d) and set(layer.stride) == {1}:
            layer.register_forward_pre_hook(_refuse_narrow_bf16)


def _refuse_narrow_bf16(layer: nn.Conv3d, inputs: tuple[Tensor, ...]) -> None:
    sides = tuple(inputs[0].shape[2:])
    narrow = any(side < kernel for side, kernel in zip(sides, layer.kernel_size, strict=True))
    if narrow and layer.training and torch.is_autocast_enabled("cpu"):
        raise BadInput(
            f"precision bf16 on a CPU: a kernel of {layer.kernel_size} over a volume of {sides} would get a wrong "
            "gradient; take --set precision=no, a larger size or fewer levels"
        )
