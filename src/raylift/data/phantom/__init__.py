"""Phantoms: randomised anatomy with exact truth, drawn on any upright grid."""

from raylift.data.phantom.anatomy import VERTEBRAE, Anatomy
from raylift.data.phantom.save import save_phantoms
from raylift.data.phantom.torso import LABELS, Phantom, torso

__all__ = ["LABELS", "VERTEBRAE", "Anatomy", "Phantom", "save_phantoms", "torso"]
