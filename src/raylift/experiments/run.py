"""An experiment from its declaration to its page: data, trainings, table, what held of the claims, figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter

import torch

from raylift.compare import Comparison, Entrant, Row, compare
from raylift.compare.statistics import paired_p
from raylift.data import store
from raylift.data.store import Dataset, open_dataset
from raylift.errors import BadInput, RayliftError
from raylift.evaluate import BETTER, EVERY, text_of
from raylift.experiments import material
from raylift.experiments.context import Context
from raylift.experiments.folds import over_patients
from raylift.experiments.reduced import entrant_of, widths_of
from raylift.experiments.spec import WINDOW, Experiment, Order, Size, Variant
from raylift.io.files import write_json
from raylift.report.comparison import p_text, write_comparison
from raylift.report.experiment import Page, Picture, write_overview, write_page
from raylift.train import read_log

CRITIC = 2.0  # ours: how much longer a step with a discriminator takes
BESIDE = 1.3  # ours: reading, validation and writing
FEW = 10  # ours: fewer updates are done before their time is reckoned


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An experiment that has been run: its folder, first sentence, what held, and how long it took here."""

    name: str
    folder: Path
    finding: str
    held: tuple[str, ...]
    failed: tuple[str, ...]
    seconds: float


def run(
    experiment: Experiment,
    size: Size,
    out: Path,
    *,
    device: str | None = None,
    clinical: Path | None = None,
    roi: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
    data: Mapping[str, Path] | None = None,
    command: str = "",
    tell: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Run an experiment in `out`/<size>; what is there already of data, runs and scores is kept.

    `data` names prepared data sets that take the place of phantoms of a kind; the papers' own size needs them.
    The table, the figures and index.html and index.md lie in `out`/<size>/<name>.
    """
    begun = perf_counter()
    room = out / size.name
    place = room / experiment.name
    size = material.size_for(experiment.data, size)
    groups = _groups(experiment)
    opened = {kind: data_of(kind, room, size, tell, data) for kind in groups}
    size = replace(size, voxels=size.voxels or opened[experiment.data].size)
    chosen = {
        kind: [entrant_of(variant, opened[kind], size) for variant in variants] for kind, variants in groups.items()
    }
    expected = _in_words(expected_seconds(chosen, opened, room, size))
    tell(f"{experiment.name}: about {expected} of training from here")
    comparisons = {
        kind: compare(
            entrants,
            opened[kind].folder,
            place if kind == experiment.data else place / kind,
            window=WINDOW,
            columns=experiment.columns,
            steps=size.steps or None,
            reference=experiment.reference,
            device=device,
            tell=tell,
            runs=room / kind / "runs",
        )
        for kind, entrants in chosen.items()
    }
    more = {"clinical": clinical, "roi": roi, "other_data": lambda kind: data_of(kind, room, size, tell, data)}
    context = _context(experiment, size, room, opened, comparisons, **more)
    pictures = [picture for draw in experiment.draw for picture in _drawn(draw, context)]
    trained = sum(trained_seconds(room / kind / "runs", variants) for kind, variants in groups.items())
    about = _about(experiment, size, opened[experiment.data], command, (trained, perf_counter() - begun))
    return _written(experiment, context.comparison, place, about, pictures, begun)


def run_on_patients(
    experiment: Experiment,
    size: Size,
    out: Path,
    real: Path,
    *,
    device: str | None = None,
    command: str = "",
    tell: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """The experiment's table over the patients of `real`, one left out at a time, in `out`/<size>/<name>-patients."""
    begun = perf_counter()
    room = out / size.name
    name = f"{experiment.name}-patients"
    size = material.size_for(experiment.data, size)
    phantoms = data_of(experiment.data, room, size, tell)
    found = over_patients(experiment, size, phantoms, real, room / name, device=device, tell=tell)
    trained = sum(trained_seconds(runs, experiment.rows) for runs in (room / name).glob("fold-*/runs"))
    about = _about(experiment, replace(size, test=0), phantoms, command, (trained, perf_counter() - begun))
    about["data"] = f"{found.data}; trained on {about['data']}, and on the other patients"
    return _written(experiment, found, room / name, about, (), begun)


def _written(
    experiment: Experiment,
    found: Comparison,
    place: Path,
    about: Mapping[str, str],
    pictures: Sequence[Picture],
    begun: float,
) -> Outcome:
    """The page in `place`, its tables and outcome.json, and the overview beside it."""
    held = tuple(judged(order, found) for order in experiment.claims)
    write_comparison(found, place)
    write_page(Page(experiment=place.name, about=about, held=held, pictures=tuple(pictures)), found, place)
    failed = tuple(row.label for row in found.rows if row.scores is None or row.scores.failed)
    outcome = Outcome(
        name=place.name,
        folder=place,
        finding=found.finding(),
        held=held,
        failed=failed,
        seconds=perf_counter() - begun,
    )
    write_json(place / "outcome.json", {**asdict(outcome), "folder": place.name, "of": about["experiment"]})
    write_overview(place.parent)
    return outcome


def _groups(experiment: Experiment) -> dict[str, list]:
    """The rows by the data that they learn from; the experiment's own data first."""
    groups: dict[str, list] = {experiment.data: []}
    for variant in experiment.rows:
        groups.setdefault(variant.data or experiment.data, []).append(variant)
    return groups


def data_of(
    kind: str, room: Path, size: Size, tell: Callable[[str], None], given: Mapping[str, Path] | None = None
) -> Dataset:
    """The data set that is given for the kind, else its phantoms at this size, made where they are not there."""
    if given and kind in given:
        return open_dataset(given[kind])
    if size.widths == "full":
        profile = material.kind_of(kind).profile
        raise BadInput(
            f"the papers' own size needs a data set of {kind}: `raylift prepare CTS -o DATASET --profile {profile}` "
            f"makes one, --data {kind}=DATASET names it"
        )
    folder = room / kind / f"phantoms-{kind}"
    return open_dataset(material.make(kind, folder, material.size_for(kind, size), tell=tell))


def _context(
    experiment: Experiment,
    size: Size,
    room: Path,
    opened: Mapping[str, Dataset],
    comparisons: Mapping[str, Comparison],
    **more,
) -> Context:
    """What the figures are drawn of; rows of other data are put beside the experiment's own."""

    def one(kind: str, comparison: Comparison) -> Context:
        return Context(
            experiment=experiment,
            size=size,
            dataset=opened[kind],
            comparison=comparison,
            runs=room / kind / "runs",
            **more,
        )

    own = comparisons[experiment.data]
    context = one(experiment.data, replace(own, rows=_in_order(experiment, comparisons)))
    if len(comparisons) > 1:
        for variant in experiment.rows:
            kind = variant.data or experiment.data
            context.parts[variant.name] = one(kind, comparisons[kind])
    return context


def _in_order(experiment: Experiment, comparisons: Mapping[str, Comparison]) -> tuple[Row, ...]:
    """All rows as they are declared, then the baselines of the experiment's own data."""
    found = {}
    for comparison in comparisons.values():
        for row in comparison.rows:
            found.setdefault(row.label, []).append((comparison, row))
    own = comparisons[experiment.data]
    rows = [row for variant in experiment.rows for _, row in found[variant.name]]
    names = {variant.name for variant in experiment.rows}
    return (*rows, *(row for row in own.rows if row.label not in names))


def _drawn(draw, context: Context) -> Sequence[Picture]:
    """The pictures, or one that says why there is none."""
    try:
        return draw(context)
    except RayliftError as error:
        return [Picture(title=context.experiment.what, note=f"not drawn: {error}")]


def judged(order: Order, comparison: Comparison) -> str:
    """Whether a claim of the paper held here, with both means and the paired p, in one sentence."""
    rows = {row.label: row for row in comparison.rows if not row.refined}
    better, worse = rows.get(order.better), rows.get(order.worse)
    said = f"{order.better} is better than {order.worse} ({EVERY[order.metric][0]})"
    values = [None if row is None else row.mean(order.metric) for row in (better, worse)]
    if None in values:
        return f"not tried: {said}; a row failed"
    apart = (values[0] - values[1]) * BETTER[order.metric]
    p = paired_p(better.values(order.metric), worse.values(order.metric))
    told = f"{text_of(order.metric, values[0])} against {text_of(order.metric, values[1])}"
    sure = "too few cases for a p" if p is None else f"p {p_text(p)}, not corrected"
    return f"{'held' if apart > 0 else 'did not hold'}: {said}: {told}, {sure}"


def expected_seconds(
    chosen: Mapping[str, Sequence[Entrant]], opened: Mapping[str, Dataset], room: Path, size: Size
) -> float:
    """How long the trainings that are not there yet will take on this machine, from one step of each."""
    total = 0.0
    if 0 < size.steps < FEW:
        return total
    for kind, entrants in chosen.items():
        case = opened[kind].cases("train")[0]
        for one in entrants:
            if not (room / kind / "runs" / one.label / "last").is_dir():
                passes = one.recipe.epochs * len(opened[kind].splits["train"])
                total += (size.steps * size.batch or passes) * BESIDE * step_seconds(one, case)
    return total


def trained_seconds(runs: Path, variants: Sequence[Variant]) -> float:
    """How long the updates of these rows' runs took, by their logs."""
    rows = [row for one in variants for row in read_log(runs / one.name)]
    return sum(row["seconds"] for row in rows if row["kind"] == "step")


def step_seconds(one: Entrant, case: store.Case) -> float:
    """Seconds of one forward and backward pass of the entrant's net on a CPU."""
    net = one.model.build(torch.Generator().manual_seed(0)).train()
    batch = store.load_batch([case], views=one.model.views, size=one.model.size)
    begun = perf_counter()
    one.model.run(net, batch.xrays, batch.beams)["ct"].square().mean().backward()
    return (perf_counter() - begun) * (CRITIC if "gan" in one.recipe.losses else 1.0)


def _in_words(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


def _about(
    experiment: Experiment, size: Size, dataset: Dataset, command: str, seconds: tuple[float, float]
) -> dict[str, str]:
    """What the page says above the table; seconds of the trainings, and of this call."""
    widths = "; ".join(
        f"{v.name}: {', '.join(f'{k} {x}' for k, x in widths_of(v, size).items()) or 'as declared'}"
        for v in experiment.rows
    )
    phantoms = f"phantoms: {material.kind_of(experiment.data).of}; no patient is among them"
    source = phantoms if dataset.folder.name.startswith("phantoms-") else dataset.folder.name
    return {
        "experiment": f"{experiment.paper}, {experiment.what}: {experiment.title}",
        "data": f"{source}; cube of {dataset.size * dataset.spacing:g} mm",
        "size": size.describe(),
        "reduced nets": widths,
        **({"note": experiment.note} if experiment.note else {}),
        **({"command": command} if command else {}),
        "time": f"{_in_words(seconds[0])} of updates by the runs' logs; {_in_words(seconds[1])} for this call",
    }
