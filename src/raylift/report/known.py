"""What is known of our measures' errors on phantoms: JSON files that the benches leave beside this file."""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from raylift.io.files import write_text


def known(what: str) -> dict[str, Any]:
    """The content of `what`_errors.json: 'chest' is of bench/assess.py, 'spine' of bench/spine.py."""
    return json.loads(_file(what).read_text(encoding="utf-8"))


def keep(what: str, content: Mapping[str, Any]) -> Path:
    """Writes what `known` reads from now on, and returns where."""
    path = Path(str(_file(what)))
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")  # in this order, which tables have
    return path


def _file(what: str):
    return files("raylift.report") / f"{what}_errors.json"
