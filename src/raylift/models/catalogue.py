"""What the declarations say, for a reader: rows for a listing, one model's page, and docs/models.md."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from raylift.models import MODELS
from raylift.models.counts import summary
from raylift.models.spec import Model, Recipe
from raylift.models.weights import find_weights

HEAD = """# The systems

Generated from the declarations in `src/raylift/models/` by `make golden`; edit those.

Operations are for one volume at paper size. "true" counts multiply-accumulates that are done; "thop" charges a
transposed convolution for each output voxel; "x2" is twice thop, biases and ReLUs. Papers mix the three. A dash: the
method works on real rays, and what it does depends on them. Where a net is built without dead branches, the counts
that paper or code state belong to the net with them, which is then the second line.

| system | X-rays | size | parameters | true GMAC | thop GMAC | x2 G | stated |
| --- | --- | --- | ---: | ---: | ---: | ---: | --- |
"""


def rows(models: Iterable[Model]) -> list[dict[str, Any]]:
    """For each model: name, paper, views, size, spacing, parameters, gmac, gmac_thop, weights (shipped or not)."""
    return [_row(model, summary(model)["built"]) for model in models]


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


def page(counted: Mapping[str, Mapping[str, Any]]) -> str:
    """docs/models.md, given each model's `summary`: the table, then each with its recipe, figures and our choices."""
    table = "".join(line for model in MODELS.values() for line in _table_lines(model, counted[model.name]))
    return HEAD + table + "".join(f"\n## {model.name}\n\n{describe(model)}" for model in MODELS.values())


def _table_lines(model: Model, row: Mapping[str, Any]) -> list[str]:
    numbers = {key: value for key, value in row.get("stated", {}).items() if isinstance(value, (int, float))}
    said = "; ".join(f"{key} {_number(value)}" for key, value in numbers.items())
    head = f"| `{model.name}` | {', '.join(model.views)} | {model.size}³ "
    if "as_stated" not in row:
        return [f"{head}{_cells(row['built'])}| {said} |\n"]
    return [f"{head}{_cells(row['built'])}| |\n", f"| | | {_cells(row['as_stated'])}| {said} |\n"]


def _cells(counts: Mapping[str, Any]) -> str:
    giga = [_giga(counts.get(key)) for key in ("true", "thop", "x2")]
    return f"| {counts['parameters']:,} | " + " | ".join("–" if g is None else f"{g:.2f}" for g in giga) + " "


def _number(value: float) -> str:
    return f"{value / 1e9:.3f} G" if value >= 1e9 else f"{value:,}"


def describe(model: Model) -> str:
    """The model's paper, recipe, the paper's own figures and what we had to choose, as Markdown."""
    lines = [
        f"{model.paper}. {len(model.views)} X-ray(s), {model.size}³ at {model.spacing:g} mm; target {model.target}."
    ]
    if model.recipe is not None:
        lines += ["", "Recipe: " + "; ".join(_settings(model.recipe)) + "."]
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
