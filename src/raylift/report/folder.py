"""The folder that `raylift reconstruct` leaves: the CT, a picture, a page, and the manifest; whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

from raylift import io
from raylift.data.prepare.resample import on_grid_of
from raylift.errors import unknown_name
from raylift.geometry import canonical
from raylift.io.files import filled_folder
from raylift.reconstruct import Result, reconstruct
from raylift.report import tables
from raylift.report.figures import preview
from raylift.report.page import page

CT_NAMES = {"nifti": "ct.nii.gz", "nrrd": "ct.nrrd", "mha": "ct.mha", "dicom": "ct"}


def reconstruct_to(
    out: str | os.PathLike,
    pa: str | os.PathLike,
    lateral: str | os.PathLike | None = None,
    *,
    output_type: str = "nifti",
    truth: str | os.PathLike | None = None,
    **options: Any,
) -> Result:
    """Reconstruct (with `raylift.reconstruct`'s options) and fill the folder `out`; its manifest names the files.

    With `truth`, a CT of the same patient in the same place, the report holds the scores against it.
    """
    if output_type not in CT_NAMES:
        raise unknown_name("output type", output_type, CT_NAMES)
    with filled_folder(Path(out)) as folder:
        true_ct = None if truth is None else canonical(io.read_ct(truth))
        result = reconstruct(pa, lateral, **options)
        write_result(result, folder, output_type=output_type, truth=true_ct)
    return result


def write_result(result: Result, folder: Path, *, output_type: str = "nifti", truth=None) -> None:
    """Write the CT, preview.png, report.html and manifest.json of `result` into `folder`."""
    found, there = None, None
    if truth is not None:
        there, filled = on_grid_of(result.ct, truth)
        found = tables.scores(result.ct, there, filled)
        result.manifest["truth"] = found
    result.manifest["files"] = [CT_NAMES[output_type], "preview.png", "report.html", "manifest.json"]
    io.write_ct(result.ct, folder / CT_NAMES[output_type], output_type=output_type)
    picture = preview(result, there)
    (folder / "preview.png").write_bytes(picture)
    (folder / "report.html").write_text(page(result.manifest, picture, found), encoding="utf-8")
    content = json.dumps(result.manifest, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "manifest.json").write_text(content + "\n", encoding="utf-8")
