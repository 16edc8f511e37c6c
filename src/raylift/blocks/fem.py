"""FEM: features enhanced by filtering their spectrum (EAR, 3.3.1)."""

from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn

SPACE = (-3, -2, -1)


def in_float32(x: Tensor):
    """A context without mixed precision on the tensor's device."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


class FEM(nn.Module):
    """Frequency enhancement (3.3.1), always in float32:

        F --> IN --> FFT --.-- real -- conv --.--> inverse FFT --> concat with F --> conv, IN, ReLU
                           '-- imag -- conv --'

    Half the spectrum is enough, and makes the result real. `kernel` 1 mixes channels at each frequency and moves with
    a (cyclic) shift; 3 also mixes neighbouring frequencies.
    """

    def __init__(self, channels: int, kernel: int = 3):
        super().__init__()
        self.norm = nn.InstanceNorm3d(channels)
        self.real, self.imaginary = (
            nn.Conv3d(channels, channels, kernel, padding=kernel // 2, bias=False) for _ in range(2)
        )
        self.join = nn.Sequential(
            nn.Conv3d(2 * channels, channels, 3, padding=1, bias=False), nn.InstanceNorm3d(channels), nn.ReLU()
        )

    def enhance(self, x: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B C D H W"]:
        """The volume behind the filtered spectrum."""
        with in_float32(x):
            spectrum = torch.fft.rfftn(self.norm(x.float()), dim=SPACE, norm="ortho")
            spectrum = torch.complex(self.real(spectrum.real), self.imaginary(spectrum.imag))
            planes = torch.fft.ifftn(spectrum, dim=SPACE[:2], norm="ortho")  # filtering left it no mirror symmetry
            return torch.fft.irfft(planes, n=x.shape[-1], dim=-1, norm="ortho")

    def forward(self, x: Float[Tensor, "B C D H W"]) -> Float[Tensor, "B C D H W"]:
        return self.join(torch.cat([self.enhance(x).to(x.dtype), x], 1))
