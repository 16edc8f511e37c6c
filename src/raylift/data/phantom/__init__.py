"""Phantoms: randomised anatomy with exact truth, drawn on any upright grid."""

from raylift.data.phantom.anatomy import VERTEBRAE, Anatomy
from raylift.data.phantom.kinds import KINDS, Kind
from raylift.data.phantom.pneumothorax import pneumothorax
from raylift.data.phantom.save import save_phantoms
from raylift.data.phantom.spine import spine
from raylift.data.phantom.torso import LABELS, Phantom, torso
from raylift.data.phantom.vertebra import vertebra

__all__ = [
    "KINDS",
    "LABELS",
    "VERTEBRAE",
    "Anatomy",
    "Kind",
    "Phantom",
    "pneumothorax",
    "save_phantoms",
    "spine",
    "torso",
    "vertebra",
]
