"""Fully sharded training, PyTorch's FSDP2: between updates a process keeps its share of weights and moments only.

Large layers are whole in a process only while they compute, the rest of the net while it does; gradients are averaged
and shared out as they come. A checkpoint holds whole tensors, the same files as of a training that was not sharded.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

LARGE = 1_000_000  # ours: parameters of a layer that is put together by itself


def sharded(net: nn.Module, device: torch.device, large: int = LARGE) -> nn.Module:
    """`net`, its parameters shared out among the processes; made before the optimiser, which moves what is left."""
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    for layer in reversed(list(net.modules())):  # a layer before what it lies in
        if layer is not net and sum(weight.numel() for weight in layer.parameters(recurse=False)) >= large:
            fully_shard(layer, mesh=mesh)
    return fully_shard(net, mesh=mesh)


def whole(tensor: Any) -> Any:
    """The tensor with all shares put together, where it is shared out; all processes must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, own: Any) -> Tensor:
    """The whole `tensor` as this process keeps it: shared out as `own` is, if that is."""
    if not isinstance(own, DTensor) or tensor.shape != own.shape:
        return tensor
    return distribute_tensor(tensor.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def whole_moments(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimiser's state_dict in whole tensors; all processes must ask for it."""
    record = optimiser.state_dict()
    state = {k: {name: whole(value) for name, value in kept.items()} for k, kept in record["state"].items()}
    return {**record, "state": state}


def put_moments(optimiser: torch.optim.Optimizer, record: Mapping[str, Any]) -> None:
    """Put back what `whole_moments` found."""
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    state = {
        k: {name: like(value, weights[k]) if isinstance(value, Tensor) else value for name, value in kept.items()}
        for k, kept in record["state"].items()
    }
    optimiser.load_state_dict({**record, "state": state})


def share_buffers(net: nn.Module) -> None:
    """What batch norms have counted is the first process's in all, where the net is sharded; DDP does so too."""
    if any(isinstance(weight, DTensor) for weight in net.parameters()):
        for buffer in net.buffers():
            distributed.broadcast(buffer, 0)
