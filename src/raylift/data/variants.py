"""XctNet's 59 variants of each case as a preset: 29 that move the patient, 30 that change the look of the X-ray alone.

The released code moves the X-ray and leaves the CT, and makes the variants before it divides the cases. Here a variant
that moves anything moves the CT, whose X-ray is then projected anew, and variants are drawn while a net trains, of
training cases only. Families and ranges: XctNet, original code; the spacing within a range is ours.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from raylift.data.augment import Movement

PIXEL_MM = 0.4  # of a shift: 0.8 mm at the panel, magnified twice (preset xctnet-paper)
SCALES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.5)
TURNS_DEG = (0.0, 10.0, 30.0, 45.0, 90.0, 120.0, 135.0, 170.0, 180.0)  # in the plane of the frontal view
SHIFTS_PIXELS = tuple((x, z) for x in (-60.0, 0.0, 60.0) for z in (-30.0, 0.0, 30.0))
BRIGHTNESS = tuple(np.linspace(0.3, 0.9, 9).tolist())
FACTORS = tuple(np.linspace(0.5, 1.5, 7).tolist())  # of colour, contrast and sharpness


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One of the 59: how the patient is moved, and by which factors the finished X-ray is changed (1: not at all)."""

    name: str
    movement: Movement = field(default_factory=Movement)
    brightness: float = 1.0
    contrast: float = 1.0
    sharpness: float = 1.0

    def look(self, xrays: Float[Tensor, "V rows cols"]) -> Float[Tensor, "V rows cols"]:
        """X-rays of the same range, brightness, contrast and sharpness changed; cut where a picture would be full."""
        low, high = (f(xrays, dim=(1, 2), keepdim=True) for f in (torch.amin, torch.amax))
        span = (high - low).clamp_min(1e-6)
        picture = ((xrays - low) / span * self.brightness).clamp(0, 1)
        grey = picture.mean((1, 2), keepdim=True)
        picture = (grey + self.contrast * (picture - grey)).clamp(0, 1)
        soft = avg_pool2d(pad(picture[:, None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[:, 0]
        picture = (soft + self.sharpness * (picture - soft)).clamp(0, 1)
        return low + picture * span


def xctnet_variants() -> tuple[Variant, ...]:
    """All 59, in the order scale, turn, mirror, shift, brightness, colour, contrast, sharpness."""
    scales = [Variant(name=f"scale {s:g}", movement=Movement(scale=s)) for s in SCALES]
    turns = [Variant(name=f"turn {a:g}", movement=Movement(turn_deg=(0.0, a, 0.0))) for a in TURNS_DEG]
    mirrors = [
        Variant(name="mirror left-right", movement=Movement(flip=True)),
        Variant(name="mirror head-feet", movement=Movement(flip=True, turn_deg=(0.0, 180.0, 0.0))),
        Variant(name="mirror both", movement=Movement(turn_deg=(0.0, 180.0, 0.0))),
    ]
    shifts = [
        Variant(name=f"shift {x:g} {z:g}", movement=Movement(shift_mm=(x * PIXEL_MM, 0.0, z * PIXEL_MM)))
        for x, z in SHIFTS_PIXELS
    ]
    looks = [Variant(name=f"brightness {b:.3g}", brightness=b) for b in BRIGHTNESS]
    looks += [Variant(name=f"colour {c:.3g}") for c in FACTORS]  # an X-ray is grey: it has no colour to change
    looks += [Variant(name=f"contrast {c:.3g}", contrast=c) for c in FACTORS]
    looks += [Variant(name=f"sharpness {s:.3g}", sharpness=s) for s in FACTORS]
    return (*scales, *turns, *mirrors, *shifts, *looks)


def drawn_variant(generator: torch.Generator) -> Variant:
    """One of the 59, each as likely."""
    variants = xctnet_variants()
    return variants[int(torch.randint(len(variants), (), generator=generator))]
