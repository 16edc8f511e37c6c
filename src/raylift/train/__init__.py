"""Training: `train` fills a run's folder, `open_run` gives the net that is in it."""

from raylift.train.log import Progress, progress_bar, read_log
from raylift.train.loop import train
from raylift.train.rehearse import Rehearsal, rehearse
from raylift.train.run import Run, export_weights, open_run, read_recipe
from raylift.train.start import is_first

__all__ = [
    "Progress",
    "Rehearsal",
    "Run",
    "export_weights",
    "is_first",
    "open_run",
    "progress_bar",
    "read_log",
    "read_recipe",
    "rehearse",
    "train",
]
