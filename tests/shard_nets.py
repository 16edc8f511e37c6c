"""What test_shard.py launches in two processes: a tiny copy of each net, whole and shared out, on the same X-rays."""

import sys

import torch
from torch import distributed, nn

from raylift.train.shard import like, put_moments, sharded, whole, whole_moments
from test_models import shots, tiny

CPU = torch.device("cpu")


def outcome(name: str, large: int | None) -> tuple[float, list[float]]:
    """The mean square of what the net gives, and each parameter's gradient norm; shared out unless `large` is None."""
    model, net = tiny(name)
    net.train()
    if large is not None:
        net = sharded(net, CPU, large)
    torch.manual_seed(1)
    xrays = torch.rand(1, len(model.views), model.tiny_size, model.tiny_size)
    loss = model.run(net, xrays, shots(model, 1))["ct"].square().mean()
    loss.backward()
    return loss.item(), [float(whole(p.grad).norm()) for p in net.parameters() if p.grad is not None]


def check_nets(names: list[str]) -> None:
    """One unit for each layer, the most that can go wrong, and one for the net."""
    for name in names:
        loss, norms = outcome(name, None)
        for large in (1, 10**9):
            shared_loss, shared_norms = outcome(name, large)
            torch.testing.assert_close(shared_loss, loss, rtol=1e-5, atol=1e-8, msg=name)
            torch.testing.assert_close(shared_norms, norms, rtol=1e-3, atol=1e-3 * max(norms), msg=name)


def check_shares() -> None:
    """Half of the weights and moments are here; put together and shared out again they are what they were."""
    net = sharded(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 8)), CPU, large=4000)
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 64)).sum().backward()
    optimiser.step()
    for weight in net.parameters():
        moments = optimiser.state[weight]["exp_avg"]
        assert 2 * weight.to_local().numel() == 2 * moments.to_local().numel() == weight.numel()
    record = whole_moments(optimiser)
    assert record["state"][0]["exp_avg"].shape == (64, 64) and type(record["state"][0]["exp_avg"]) is torch.Tensor
    before = [optimiser.state[weight]["exp_avg"].to_local().clone() for weight in net.parameters()]
    put_moments(optimiser, record)
    for weight, moments in zip(net.parameters(), before, strict=True):
        assert torch.equal(optimiser.state[weight]["exp_avg"].to_local(), moments)
        assert torch.equal(like(whole(weight.detach()), weight).to_local(), weight.to_local())


if __name__ == "__main__":
    distributed.init_process_group("gloo")
    torch.set_num_threads(1)
    check_shares()
    check_nets(sys.argv[1:])
    distributed.destroy_process_group()
