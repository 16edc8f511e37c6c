"""`raylift spine`: a spine measured, composed of two X-rays, or both beside the truth."""

from pathlib import Path
from typing import Annotated

import typer

from raylift.cli.terminal import Device, busy, clean, print_table, shown
from raylift.errors import BadInput


def spine(
    source: Annotated[Path, typer.Argument(help="A CT; with --places the frontal X-ray.")],
    lateral: Annotated[Path | None, typer.Argument(help="With --places: the lateral X-ray.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for label map, meshes, pictures, page.")] = ...,
    labels: Annotated[Path | None, typer.Option(help="The CT's label map of vertebrae.")] = None,
    numbering: Annotated[str | None, typer.Option(help="Of the label map: verse, ctspine1k, totalsegmentator.")] = None,
    structures: Annotated[Path | None, typer.Option(help="A CSV that says which number is which structure.")] = None,
    lowest: Annotated[str | None, typer.Option(help="Without a label map: the lowest vertebra's name, L5.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Compose the spine with it: a run's folder, a name, or truth; else measure.")
    ] = None,
    rays: Annotated[
        str, typer.Option(help="X-ray each vertebra alone (vertebra) or the patient (whole).")
    ] = "vertebra",
    levels: Annotated[str | None, typer.Option(help="With --model: only these, such as T10,T11,L5.")] = None,
    places: Annotated[Path | None, typer.Option(help="A JSON: where each vertebra is in the two X-rays.")] = None,
    spacing: Annotated[float | None, typer.Option(help="A pixel's size at the detector, mm.")] = None,
    geometry: Annotated[Path | None, typer.Option(help="A geometry.json; it wins over the files' tags.")] = None,
    begins: Annotated[float | None, typer.Option(help="Where bone begins, HU; else it is found.")] = None,
    mesh_type: Annotated[str, typer.Option(help="stl, ply or obj.")] = "stl",
    frame: Annotated[str, typer.Option(help="Of the meshes: LPS or RAS.")] = "LPS",
    device: Device = None,
) -> None:
    """Measure a spine, or compose it of single vertebrae: label map, meshes, heights, angles, and a page."""
    from raylift.io.mesh import FRAMES, SUFFIXES
    from raylift.report import spine as report

    if f".{mesh_type}" not in SUFFIXES or frame not in FRAMES:
        raise BadInput(f"a mesh is {', '.join(s[1:] for s in SUFFIXES)} in {' or '.join(FRAMES)}")
    with busy("working on the spine"):
        if places is not None or lateral is not None:
            found = _composed(source, lateral, places, model, spacing, geometry, begins, device)
        else:
            found = _of_ct(source, labels, numbering, structures, lowest, model, rays, levels, begins, device)
        report.write_spine(found, out, mesh_type=mesh_type, frame=frame)
    for note in found.manifest["notes"]:
        print(clean(note))
    if found.truth is not None:
        head = ("level", "place off mm", "centroid off mm", "Dice", "ASSD mm", "HD95 mm", "signed mm")
        print_table(head, report.error_rows(found.manifest["table"]))
    print_table(
        ("level", "anterior mm", "middle mm", "posterior mm", "wedge deg", "depth mm", "width mm"),
        report.measure_rows(found.manifest),
    )
    for row in report.angle_rows(found.manifest):
        print(clean(f"{row[0]}: {row[1]}" + (f"; truth: {row[2]}" if len(row) > 2 else "")))
    print(f"Label map, meshes and page: {shown(out)} (open {shown(out / 'spine.html')})")


def _composed(pa, lateral, places, model, spacing, geometry, begins, device):
    from raylift.spine import compose

    if lateral is None or places is None or model is None:
        raise BadInput("a spine of X-rays needs two of them, --places, and --model")
    return compose(
        pa, lateral, places, model=model, spacing=spacing, geometry=geometry, begins_hu=begins, device=device
    )


def _of_ct(source, labels, numbering, structures, lowest, model, rays, levels, begins, device):
    from raylift import spine as rooms
    from raylift.geometry import canonical
    from raylift.io import read_ct
    from raylift.segment.column import from_bone
    from raylift.segment.vertebrae import from_label_map

    ct = canonical(read_ct(source))
    if labels is None:
        vertebrae = from_bone(ct, lowest=lowest, begins=begins)
    else:
        vertebrae = from_label_map(canonical(read_ct(labels)), numbering=numbering, structures=structures)
    if model is None:
        return rooms.measured(vertebrae, source=ct.source)
    if vertebrae.grid != ct.grid:
        raise BadInput(f"{shown(labels or source)}: lies on another grid than the CT; resample it first")
    wanted = None if levels is None else [name.strip() for name in levels.split(",") if name.strip()]
    return rooms.study(ct, vertebrae, model=model, rays=rays, levels=wanted, device=device)
