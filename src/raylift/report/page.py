"""The report: one HTML file that needs no network, with what was guessed first and everything escaped."""

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from raylift.report import tables


def page(manifest: Mapping[str, Any], preview: bytes, scores: Mapping[str, Any] | None = None) -> str:
    """The report's HTML: notes, pictures, re-projection errors, scores against a true CT, and the whole manifest."""
    frame = Environment(loader=PackageLoader("raylift", "report"), autoescape=True, undefined=StrictUndefined)
    return frame.get_template("report.html").render(
        manifest=manifest,
        preview="data:image/png;base64," + b64encode(preview).decode(),
        errors=tables.reprojection_rows(manifest["reprojection"]),
        scores=None if scores is None else tables.score_rows(scores),
        score_window=None if scores is None else tables.window_text(scores),
        content=json.dumps(manifest, indent=1, ensure_ascii=False),
    )
