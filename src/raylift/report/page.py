"""The report: one HTML file that needs no network, with what was guessed first and everything escaped."""

import json
from collections.abc import Mapping
from typing import Any

from raylift.report import tables
from raylift.report.html import embedded, rendered


def page(manifest: Mapping[str, Any], preview: bytes, scores: Mapping[str, Any] | None = None) -> str:
    """The report's HTML: notes, pictures, re-projection errors, scores against a true CT, and the whole manifest."""
    return rendered(
        "report.html",
        manifest=manifest,
        preview=embedded(preview),
        errors=tables.reprojection_rows(manifest["reprojection"]),
        scores=None if scores is None else tables.score_rows(scores),
        score_window=None if scores is None else tables.window_text(scores),
        content=json.dumps(manifest, indent=1, ensure_ascii=False),
    )
