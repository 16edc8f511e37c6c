"""How the net does on the validation cases, with the weights that would be used."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from raylift import metrics
from raylift.data import store
from raylift.data.store import Case
from raylift.physics import CHEST_WINDOW, Unit
from raylift.train.schedule import Ema
from raylift.train.step import Players, supervised_terms, weighted


@torch.no_grad()
def validate(players: Players, ema: Ema | None, cases: Sequence[Case]) -> dict[str, Any]:
    """The mean supervised loss, PSNR (dB) and MAE (HU) over `cases`, within the target's window."""
    model, device = players.model, players.accelerator.device
    window = model.target.window if isinstance(model.target, Unit) else CHEST_WINDOW
    found = []
    with in_use(players.bare(players.net), ema) as net:
        for case in cases:
            batch = store.load_batch([case], views=model.views, size=model.size).to(device)
            outputs = model.run(net, batch.xrays, batch.beams)
            ct = outputs["ct"].float()
            terms = supervised_terms(players.recipe, outputs, model.target.encode(batch.hu), batch.valid)
            hu = model.target.decode(ct)
            if not hu.isfinite().all():
                found.append(torch.full((3,), float("nan"), device=device))
                continue
            judged = [f(hu, batch.hu, window=window, valid=batch.valid).mean() for f in (metrics.psnr, metrics.mae)]
            found.append(torch.stack([weighted(players.recipe, terms).float(), *(x.float() for x in judged)]))
    told = players.accelerator.reduce(torch.stack(found).mean(0), reduction="mean").tolist()
    return {**dict(zip(("loss", "psnr", "mae"), told, strict=True)), "window": list(window)}


@torch.no_grad()
def middle_slices(players: Players, ema: Ema | None, case: Case) -> UInt8[np.ndarray, "rows cols"]:
    """The middle axial, coronal and sagittal slice of what the net makes of `case`; below them those of its CT.

    Grey levels span the target's window.
    """
    model = players.model
    window = model.target.window if isinstance(model.target, Unit) else CHEST_WINDOW
    batch = store.load_batch([case], views=model.views, size=model.size).to(players.accelerator.device)
    with in_use(players.bare(players.net), ema) as net:
        ct = model.target.decode(model.run(net, batch.xrays, batch.beams)["ct"].float())
    rows = []
    for hu in (ct[0, 0].nan_to_num(), batch.hu[0, 0]):
        middle = model.size // 2
        row = torch.cat([hu[middle], hu[:, middle], hu[:, :, middle]], 1)
        rows.append((Unit(window).encode(row).clamp(0, 1) * 255).round().byte())
    return torch.cat(rows).cpu().numpy()


@contextmanager
def in_use(net: nn.Module, ema: Ema | None) -> Iterator[nn.Module]:
    """The net in evaluation mode, with the running mean for weights where there is one; all is put back after."""
    own = {name: t.detach().clone() for name, t in net.state_dict().items()} if ema is not None else None
    if ema is not None:
        net.load_state_dict(ema.tensors)
    net.eval()
    try:
        yield net
    finally:
        net.train()
        if own is not None:
            net.load_state_dict(own)
