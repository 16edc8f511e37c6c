"""Rewrites models.json beside this file, docs/models.md and the record of counts that `raylift models` reads.

`make golden` runs it, and the diff is reviewed.

What reduced copies learned by heart, overfit.json, takes an hour; `python tests/overfit.py` rewrites it.
"""

import json
from pathlib import Path

from raylift.models import MODELS
from raylift.models.catalogue import COUNTED, page, record
from raylift.models.counts import summary

GOLDEN = Path(__file__).with_name("models.json")
BY_HEART = Path(__file__).with_name("overfit.json")
PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def write() -> None:
    """Every model's counts at paper size, as they are now, and the page that shows them."""
    rows = {name: summary(model) for name, model in sorted(MODELS.items())}
    GOLDEN.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    COUNTED.write_text(json.dumps(record(rows), indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(rows, json.loads(BY_HEART.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    write()
