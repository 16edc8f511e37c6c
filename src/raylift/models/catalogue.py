"""What the declarations say, for a reader: rows for a listing, one model's page, and docs/models.md."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from raylift.models import MODELS
from raylift.models.counts import counts
from raylift.models.spec import Model, Recipe
from raylift.models.weights import find_weights

COUNTED = Path(__file__).with_name("counted.json")  # `make golden` writes it, tests/test_models.py holds it
KEPT = ("parameters", "true", "thop")

HEAD = """# The systems

Generated from the declarations in `src/raylift/models/` by `make golden`; edit those.

Operations are for one volume at paper size. "true" counts multiply-accumulates that are done; "thop" charges a
transposed convolution for each output voxel; "x2" is twice thop, biases and ReLUs. Papers mix the three. A dash: the
method works on real rays, and what it does depends on them. Where a net is built without dead branches, the counts
that paper or code state belong to the net with them, which is then the second line.

| system | X-rays | size | parameters | true GMAC | thop GMAC | x2 G | stated |
| --- | --- | --- | ---: | ---: | ---: | ---: | --- |
"""

BY_HEART = """
## One real case by heart

A reduced copy of each system learns the shipped case LIDC-IDRI-0001 at 64³ (5 mm) from its own X-rays, in bf16, by
squared error alone, until the volume has 25 dB (window -1024 to 1476) in the training pass itself: does the wiring
learn? It says nothing of a patient that the net has not seen. PSR's recipe draws its weights as "he", which leaves its
two last layers large: 19.4 dB after 400 updates. Seconds are those of one core that had other work too.
`python tests/overfit.py [NAME ...]` measures and records it, `make slow` asks for it. What a training step takes, in
either layout and precision, `python bench/training.py` appends to `bench/history.csv`.

| system | reduced to | parameters | drawn | Adam's rate | updates | s | dB |
| --- | --- | ---: | --- | ---: | ---: | ---: | ---: |
"""


def rows(models: Iterable[Model]) -> list[dict[str, Any]]:
    """For each model: name, paper, views, size, spacing, parameters, gmac, gmac_thop, weights (shipped or not)."""
    kept = json.loads(COUNTED.read_text(encoding="utf-8"))
    return [_row(model, _counted(model, kept)) for model in models]


def _counted(model: Model, kept: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The net's counts: those on record where it is as declared, else counted, which takes a second."""
    declared = MODELS.get(model.name)
    if model.name in kept and declared is not None and _net_of(declared) == _net_of(model):
        return kept[model.name]
    return counts(replace(model, discriminator=None))


def _net_of(model: Model) -> tuple[Any, ...]:
    return model.net, model.views, model.size, dict(model.options)


def record(counted: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What COUNTED holds, given each model's `summary`."""
    return {name: {key: row["built"].get(key) for key in KEPT} for name, row in counted.items()}


def _row(model: Model, built: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": model.name,
        "paper": model.paper,
        "views": [str(view) for view in model.views],
        "size": model.size,
        "spacing": model.spacing,
        "parameters": built["parameters"],
        "gmac": _giga(built.get("true")),
        "gmac_thop": _giga(built.get("thop")),
        "weights": find_weights(model.name) is not None,
    }


def _giga(count: int | None) -> float | None:
    return None if count is None else round(count / 1e9, 3)


def page(counted: Mapping[str, Mapping[str, Any]], learnt: Mapping[str, Mapping[str, Any]]) -> str:
    """docs/models.md, given each model's `summary` and what reduced copies learned by heart: both tables, then each
    model with its recipe, figures and our choices.
    """
    table = "".join(line for model in MODELS.values() for line in _table_lines(model, counted[model.name]))
    by_heart = BY_HEART + "".join(_learnt_line(row) for row in learnt.values())
    return HEAD + table + by_heart + "".join(f"\n## {model.name}\n\n{describe(model)}" for model in MODELS.values())


def _table_lines(model: Model, row: Mapping[str, Any]) -> list[str]:
    said = _said(row.get("stated", {}))
    head = f"| `{model.name}` | {', '.join(model.views)} | {model.size}³ "
    if "as_stated" not in row:
        return [f"{head}{_cells(row['built'])}| {said} |\n"]
    return [f"{head}{_cells(row['built'])}| |\n", f"| | | {_cells(row['as_stated'])}| {said} |\n"]


def _learnt_line(row: Mapping[str, Any]) -> str:
    options = "; ".join(f"{key} {_plain(value)}" for key, value in row["options"].items() if key != "size")
    names = ", ".join(f"`{name}`" for name in row["names"])
    how = f"{row['init']} | {row['lr']:g}"
    took = f"{row['updates']} | {row['seconds']} | {row['psnr']:.1f}"
    return f"| {names} | {options} | {row['parameters']:,} | {how} | {took} |\n"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _cells(counts: Mapping[str, Any]) -> str:
    giga = [_giga(counts.get(key)) for key in ("true", "thop", "x2")]
    return f"| {counts['parameters']:,} | " + " | ".join("–" if g is None else f"{g:.2f}" for g in giga) + " "


def _said(stated: Mapping[str, Any]) -> str:
    """The counts that paper or code state, in one line."""
    return "; ".join(f"{key} {_number(value)}" for key, value in stated.items() if isinstance(value, (int, float)))


def _number(value: float) -> str:
    return f"{value / 1e9:.3f} G" if value >= 1e9 else f"{value:,}"


def describe(model: Model) -> str:
    """The model's paper, recipe, the paper's own figures and what we had to choose, as Markdown."""
    lines = [
        f"{model.paper}. {len(model.views)} X-ray(s), {model.size}³ at {model.spacing:g} mm; target {model.target}."
    ]
    if model.recipe is not None:
        lines += ["", "Recipe: " + "; ".join(_settings(model.recipe)) + "."]
    if said := _said(model.stated_counts):
        options = ", ".join(f"{key}={value}" for key, value in model.stated_counts.get("options", {}).items())
        lines += ["", f"Counted by paper or code{f' (with {options})' if options else ''}: {said}."]
    for source, reason in model.stated_counts.get("unmatched", {}).items():
        lines += ["", f"Not matched, {source}: {reason}."]
    for source, figures in model.reported.items():
        lines += ["", f"Reported, {source}: " + ", ".join(f"{k} {v}" for k, v in figures.items()) + "."]
    if model.choices:
        lines += ["", "What we had to choose:", "", *(f"- {choice}" for choice in model.choices)]
    return "\n".join(lines) + "\n"


def _settings(recipe: Recipe) -> list[str]:
    """What the recipe says otherwise than an empty one would, the losses first."""
    plain = Recipe(losses={})
    shown = [f"losses {', '.join(f'{k} × {v:g}' for k, v in recipe.losses.items())}"]
    for one in fields(Recipe):
        value = getattr(recipe, one.name)
        if one.name != "losses" and (value != getattr(plain, one.name) or one.name in ("optimiser", "lr", "epochs")):
            shown.append(f"{one.name} {dict(value) if isinstance(value, Mapping) else value}")
    return shown
