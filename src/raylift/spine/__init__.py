"""A whole spine from single vertebrae: found in two X-rays, reconstructed one by one, stitched, measured, compared."""

from raylift.spine.compose import Spine, compose, measured, study

__all__ = ["Spine", "compose", "measured", "study"]
