"""Pages: one HTML file each that opens offline, all that is put in escaped, pictures within."""

from base64 import b64encode
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from raylift import DISCLAIMER


def rendered(template: str, **content: Any) -> str:
    """The page that `template`, a file of this folder, makes of `content`; the disclaimer is there without asking."""
    frame = Environment(loader=PackageLoader("raylift", "report"), autoescape=True, undefined=StrictUndefined)
    return frame.get_template(template).render(disclaimer=DISCLAIMER, **content)


def embedded(png: bytes) -> str:
    """A PNG as the source of an `img`."""
    return "data:image/png;base64," + b64encode(png).decode()
