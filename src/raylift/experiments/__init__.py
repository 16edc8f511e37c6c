"""Every table and figure of the five papers as something to run, in sizes from a minute to a night."""

from raylift.errors import unknown_name
from raylift.experiments.papers import EXPERIMENTS
from raylift.experiments.run import Outcome, run, run_on_patients
from raylift.experiments.spec import SIZES, Experiment, Size

__all__ = ["EXPERIMENTS", "SIZES", "Experiment", "Outcome", "Size", "chosen", "run", "run_on_patients", "size_of"]


def chosen(name: str) -> list[Experiment]:
    """The experiment of that name, all of a paper (`ear`, `xctnet`), or `all`."""
    if name == "all":
        return list(EXPERIMENTS.values())
    if name in EXPERIMENTS:
        return [EXPERIMENTS[name]]
    of_paper = [e for e in EXPERIMENTS.values() if e.paper.lower() == name.lower()]
    if not of_paper:
        raise unknown_name("experiment", name, [*EXPERIMENTS, *{e.paper.lower() for e in EXPERIMENTS.values()}, "all"])
    return of_paper


def size_of(name: str) -> Size:
    """The size of that name."""
    if name not in SIZES:
        raise unknown_name("size", name, SIZES)
    return SIZES[name]
