"""One person, drawn by lot: sizes in mm, positions in LPS with the origin in the middle of the chest.

All ranges are ours: chosen until slices, histograms and X-rays looked like those of real chest CTs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.interpolate import PchipInterpolator

VERTEBRAE = tuple([f"T{k}" for k in range(1, 13)] + [f"L{k}" for k in range(1, 6)])


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """What a torso is drawn from; with the seed of its small vessels and its grain it is the whole truth."""

    seed: int
    female: bool
    arms_up: bool
    upright: bool  # gas rises to the head, else to the front
    contrast: bool
    table: bool
    stature: float  # scales along z
    chest_wide: float  # half width of the rib cage's inside
    chest_deep: float
    shape_power: float  # of the superellipse
    apex_z: float
    dome_right_z: float
    dome_left_z: float
    dome_depth: float
    fat_mm: float
    belly: float
    muscle_mm: float
    kyphosis_mm: float
    lordosis_mm: float
    scoliosis_mm: float
    scoliosis_z: float
    shoulder_wide: float
    vertebra_mm: float  # half width of T8's body
    heart_mm: float  # its long half axis
    heart_turn_deg: float
    heart_x: float
    aorta_mm: float
    lung_hu: float
    lung_gradient: float  # HU/mm to the back
    fat_hu: float
    muscle_hu: float
    liver_hu: float
    blood_hu: float
    marrow_hu: float
    cortex_hu: float
    vessel_density: float
    rib_drop: float
    emphysema: float

    @property
    def base_z(self) -> float:
        """Where the rib cage ends."""
        return self.apex_z - 290 * self.stature

    def spine(self, z):
        """(x, y) of the middle of the spine's bodies at heights `z`."""
        z = np.asarray(z, float) / self.stature
        knots = np.array([-480, -330, -150, 0, 135, 200, 280])
        k, lo = self.kyphosis_mm, self.lordosis_mm
        bend = PchipInterpolator(knots, np.array([0.3 * lo, -lo, -0.25 * lo, 0, -k, -1.3 * k, -1.3 * k]))
        y = 0.78 * self.chest_deep - 8 + bend(np.clip(z, -480, 280))
        x = self.scoliosis_mm * np.exp(-(((z - self.scoliosis_z) / 90) ** 2))
        return x, y

    def cage(self, z, floor: float = 0.0):
        """Half width, half depth and centre (y) of the rib cage's inside at heights `z`."""
        z = np.asarray(z, float)
        bend = self.apex_z - 165 * self.stature
        u = np.clip((z - bend) / (self.apex_z - bend), 0, None)
        taper = np.sqrt(np.clip(1 - u**2.4, floor**2, None)) * (1 - 0.12 * np.clip(u, 0, 1))
        low = np.clip((bend - z) / (bend - self.base_z), 0, 1.6)
        wide = self.chest_wide * taper * (1 - 0.06 * low**2)
        back = self.spine(z)[1] + 20
        front = -self.chest_deep + 0.24 * 30 * np.logaddexp(0, (z - bend) / 30) + 12 * (1 - self.belly) * low
        middle = (back + front) / 2 + 12 * np.clip(u, 0, 1) ** 2
        return wide, np.maximum((back - front) / 2, 20) * np.maximum(taper, 0.02), middle

    def trunk(self, z):
        """Half width, half depth, centre (y), power and fat of the trunk's muscles at heights `z`, (n, 5)."""
        z = np.asarray(z, float)
        s, top, wide = self.stature, self.apex_z, self.chest_wide + self.muscle_mm
        knots = np.array([-470 * s, -330 * s, -230 * s, -110 * s, 0, top - 50, top, top + 28, top + 55, top + 85])
        neck, shoulder = 56.0 + 0.15 * (self.muscle_mm - 20), max(0.62 * self.shoulder_wide, 90)
        middle = wide * (0.9 + 0.1 * self.belly)
        values = np.array(
            [1.05 * wide, middle, middle, 0.97 * wide, wide, 1.03 * wide, 0.95 * wide, shoulder, 0.72 * shoulder, neck]
        )
        half = PchipInterpolator(knots, values)(np.clip(z, knots[0], knots[-1]))
        _, deep, centre = self.cage(np.minimum(z, top - 60), 0.4)
        spine_y = self.spine(z)[1]
        back, front = spine_y + 50, centre - deep - 14
        u = np.clip((z - (top - 60)) / 150, 0, 1)
        front = front + u * (spine_y - 88 - front)
        fat = self.fat_mm * np.interp(z, [-400, -200, -50, top - 40, top + 60], [1.5, 1.25, 0.9, 0.8, 0.35])
        power = np.interp(z, [-200, 0, top, top + 70], [2.3, self.shape_power, 2.6, 2.0])
        return np.stack([half, (back - front) / 2, (back + front) / 2, power, fat], -1)


def draw(rng: Generator, **fixed) -> Anatomy:
    """A person drawn by lot; `fixed` fixes what is named."""
    female, contrast = bool(rng.random() < 0.5), bool(rng.random() < 0.5)
    size = 0.94 if female else 1.03
    stature = float(np.clip(rng.normal(size, 0.05), 0.84, 1.16))
    apex = float(132 * stature + rng.uniform(-10, 10))
    dome = apex - rng.uniform(175, 225) * stature
    heavy = rng.beta(1.8, 3.2)
    values = {
        "seed": int(rng.integers(2**31)),
        "female": female,
        "arms_up": bool(rng.random() < 0.75),
        "upright": bool(rng.random() < 0.3),
        "contrast": contrast,
        "table": bool(rng.random() < 0.5),
        "stature": stature,
        "chest_wide": float(rng.uniform(122, 148) * size),
        "chest_deep": float(rng.uniform(84, 112) * size),
        "shape_power": float(rng.uniform(2.1, 2.7)),
        "apex_z": apex,
        "dome_right_z": float(dome),
        "dome_left_z": float(dome - rng.uniform(4, 22)),
        "dome_depth": float(rng.uniform(55, 95)),
        "fat_mm": float(7 + 38 * heavy),
        "belly": float(np.clip(0.2 + 1.2 * heavy + rng.normal(0, 0.2), 0, 1.6)),
        "muscle_mm": float(rng.uniform(17, 28) * size),
        "kyphosis_mm": float(rng.uniform(15, 48)),
        "lordosis_mm": float(rng.uniform(10, 32)),
        "scoliosis_mm": float(rng.normal(0, 5)),
        "scoliosis_z": float(rng.uniform(-60, 60)),
        "shoulder_wide": float(rng.uniform(158, 182) * size),
        "vertebra_mm": float(rng.uniform(15.5, 19) * size),
        "heart_mm": float(rng.uniform(58, 76) * size),
        "heart_turn_deg": float(rng.uniform(30, 55)),
        "heart_x": float(rng.uniform(24, 40)),
        "aorta_mm": float(rng.uniform(11.5, 17) * size),
        "lung_hu": float(rng.uniform(-900, -800)),
        "lung_gradient": float(rng.uniform(0.1, 0.75)),
        "fat_hu": float(rng.uniform(-112, -92)),
        "muscle_hu": float(rng.uniform(35, 62)),
        "liver_hu": float(rng.uniform(90, 125) if contrast else rng.uniform(40, 66)),
        "blood_hu": float(rng.uniform(130, 330) if contrast else rng.uniform(32, 52)),
        "marrow_hu": float(rng.uniform(90, 220)),
        "cortex_hu": float(rng.uniform(520, 950)),
        "vessel_density": float(rng.uniform(0.7, 1.3)),
        "rib_drop": float(rng.uniform(0.75, 1.25)),
        "emphysema": float(rng.beta(1, 4)),
    }
    return Anatomy(**(values | fixed))
