"""How much memory one update will need, told before it begins, and whether that much is free.

The update is gone through once on tensors that have shapes and no values; each storage counts from the operation that
makes it until nothing holds it any longer: weights, gradients, the optimiser's state, what the backward pass keeps.
What an operation takes within itself, and what malloc keeps in holes between small storages, cannot be seen so: `taken`
adds it. `python bench/memory.py` measures how good that is.
"""

import re
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from weakref import finalize

import psutil
import torch
from accelerate.utils import convert_outputs_to_fp32
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from raylift.data.store import Batch
from raylift.errors import OutOfMemory
from raylift.models.spec import Model, Recipe
from raylift.train.step import Players, make_optimiser, update

HIDDEN = 1.15  # ours: times what is counted, on a GPU; not measured
WITHIN = 1.05  # ours: times what is counted, on a CPU, for what an operation takes within itself; bench/memory.py
HOLES = 1.47  # ours: the same where malloc takes from its heap, which keeps holes; bench/memory.py
HEAP = 32 * 2**20  # bytes; what with its header is larger glibc gives back at once (mallopt(3), M_MMAP_THRESHOLD)
GIB = 2**30
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
CGROUP = Path("/sys/fs/cgroup")
MOST_MAPS = 4000  # ours: maps of the volume's size that a net holds; the most in models/ is 1100 (3dsrnet)
WEIGHT_COPIES = 6  # ours: weights, gradients, two moments, a running mean, one more while they are moved


Weigh = Callable[[int], int]


def counted(size: int) -> int:
    """A storage's bytes as they are."""
    return size


def taken(device: torch.device) -> Weigh:
    """How many bytes of the device a storage of so many takes, with what cannot be counted."""
    if device.type != "cpu":
        return lambda size: round(HIDDEN * size)
    return lambda size: round((HOLES if size < HEAP else WITHIN) * size)


class Peak(TorchDispatchMode):
    """Watches tensors while the block runs: `most` is the most bytes that they held at once, those of `held` too."""

    def __init__(self, held: Iterable[torch.Tensor] = (), weigh: Weigh = counted):
        super().__init__()
        self.now = self.most = 0
        self._weigh = weigh
        self._known: set[int] = set()
        for tensor in held:
            self._see(tensor)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default and type(args[0]) is not torch.Tensor:
            return 1.0  # a tensor without values is asked for one
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor)
        return out

    def _see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        name, size = storage._cdata, self._weigh(storage.nbytes())
        if name not in self._known:
            self._known.add(name)
            self.now += size
            self.most = max(self.most, self.now)
            finalize(storage, self._gone, name, size).atexit = False

    def _gone(self, name: int, size: int) -> None:
        self._known.discard(name)
        self.now -= size


class Alone:
    """An engine of one process in one precision, which asks nothing of the machine."""

    scaler = None

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def clip_grad_norm_(self, parameters, max_norm) -> torch.Tensor:
        return nn.utils.clip_grad_norm_(parameters, max_norm)

    def reduce(self, tensor: torch.Tensor, reduction: str) -> torch.Tensor:
        return tensor

    def no_sync(self, net: nn.Module):
        return nullcontext()

    def unwrap_model(self, net: nn.Module) -> nn.Module:
        return net


def needed(model: Model, recipe: Recipe, size: int, weigh: Weigh = counted) -> int | None:
    """Bytes that an update with batches of `size` cases takes at its highest; None for a net that works on real rays.

    Each storage counts as `weigh` says. The gradients of `accumulate` batches are added up in place, so their number
    does not matter.
    """
    if model.told_geometry:
        return None
    n, views = model.size, len(model.views)
    with FakeTensorMode(allow_non_fake_inputs=True):
        players = _players(model, replace(recipe, accumulate=1))
        batch = Batch(
            xrays=torch.empty(size, views, n, n),
            hu=torch.empty(size, 1, n, n, n),
            valid=None,
            beams=tuple(() for _ in range(size)),
            ids=tuple("" for _ in range(size)),
        )
        with Peak([*_held(players), batch.xrays, batch.hu], weigh) as peak:
            update(players, [batch])
            first = peak.most
            gap = sum(weigh(t.untyped_storage().nbytes()) for t in _state(players))  # the first update began without it
    copy = sum(weigh(p.numel() * p.element_size()) for p in players.net.parameters()) if recipe.ema else 0
    return first + gap + copy


def _players(model: Model, recipe: Recipe) -> Players:
    """Nets as they come, with an engine of one process that only counts."""
    net, critic = model.net(**model.options).train(), None
    if "gan" in recipe.losses:
        critic = model.discriminator(**model.discriminator_options).train()
    for each in (net, critic):
        if each is not None and recipe.precision in HALVES:
            half = torch.autocast("cpu", HALVES[recipe.precision])
            each.forward = convert_outputs_to_fp32(half(each.forward))
    build = partial(make_optimiser, recipe)
    return Players(
        accelerator=Alone(),
        model=model,
        recipe=recipe,
        net=net,
        optimiser=build(net),
        critic=critic,
        critic_optimiser=None if critic is None else build(critic),
    )


def _held(players: Players) -> list[torch.Tensor]:
    nets = [net for net in (players.net, players.critic) if net is not None]
    return [t for net in nets for t in (*net.parameters(), *net.buffers())]


def _state(players: Players) -> list[torch.Tensor]:
    """What the optimisers keep from update to update."""
    optimisers = [o for o in (players.optimiser, players.critic_optimiser) if o is not None]
    states = [state for o in optimisers for state in o.state.values()]
    return [t for state in states for t in state.values() if isinstance(t, torch.Tensor)]


def free(device: torch.device) -> int:
    """Bytes that this process may still take on the device: the GPU's, or the machine's as far as its limits go."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    left = psutil.virtual_memory().available
    try:
        kept = re.search(r"^inactive_file (\d+)$", (CGROUP / "memory.stat").read_text(), re.M)  # given up when needed
        used = int((CGROUP / "memory.current").read_text()) - int(kept.group(1) if kept else 0)
        left = min(left, int((CGROUP / "memory.max").read_text()) - used)
    except (OSError, ValueError):  # no limit here
        pass
    return max(left, 0)


def plainly_fits(model: Model, size: int, room: int) -> bool:
    """True where `room` bytes are enough for any net that is here; looking closer takes seconds."""
    with torch.device("meta"):
        count = sum(p.numel() for p in model.net(**model.options).parameters())
    return 4 * (WEIGHT_COPIES * count + MOST_MAPS * size * model.size**3) <= room


def check_memory(model: Model, recipe: Recipe, device: torch.device, processes: int = 1) -> None:
    """An error that says what would fit, where an update needs more memory than is free.

    `processes` share each batch; on a CPU they share its memory too.
    """
    share, room = recipe.batch_size // processes, free(device) // (processes if device.type == "cpu" else 1)
    if plainly_fits(model, share, room):
        return
    weigh = taken(device)
    wanted = needed(model, recipe, share, weigh)
    if wanted is None or wanted <= room:
        return
    told = f"{model.name} needs {in_gib(wanted)} at batch {recipe.batch_size}, {in_gib(room)} are free"
    total = share * recipe.accumulate
    one = needed(model, recipe, 1, weigh)
    each = (wanted - one) / max(1, share - 1)
    fitting = [b for b in range(share - 1, 0, -1) if total % b == 0 and one + each * (b - 1) <= room]
    if fitting:
        batch = fitting[0] * processes
        raise OutOfMemory(f"{told}; {batch} fits: --set batch_size={batch} --set accumulate={total // fitting[0]}")
    half = " --set precision=bf16 takes less;" if recipe.precision == "no" else ""
    raise OutOfMemory(
        f"{told}, and batch {processes} needs {in_gib(one)};{half} else take a smaller net or size, or a "
        "machine with more (--skip-memory-check tries it nevertheless)"
    )


def in_gib(count: float) -> str:
    """Bytes as a person says them.

    >>> in_gib(31 * 2**30), in_gib(2**20)
    ('31 GiB', '1 MiB')
    """
    if count < GIB:
        return f"{count / 2**20:.0f} MiB"
    return f"{count / GIB:.0f} GiB" if count >= 10 * GIB else f"{count / GIB:.1f} GiB"
