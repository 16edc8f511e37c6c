"""`raylift drr`: X-rays of a CT."""

from pathlib import Path
from typing import Annotated

import typer

from raylift.cli.terminal import busy, shown


def drr(
    ct: Annotated[Path, typer.Argument(help="A CT: NIfTI, NRRD, MHA or a DICOM folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for <view>.dcm, .png, .npy and geometry.json.")],
    views: Annotated[list[str] | None, typer.Option("--view", help="PA, AP, LAT, RLAT; any number.")] = None,
    preset: Annotated[
        str, typer.Option(help="Where source and panel stand: chest, chest-224, x2ct, xctnet-paper, xctnet-code, ear.")
    ] = "chest",
    pixels: Annotated[int | None, typer.Option(help="Pixels a side of the panel.")] = None,
    keep_table: Annotated[bool, typer.Option("--keep-table", help="Leave the scanner's table in.")] = False,
    spectrum: Annotated[
        str | None, typer.Option(help="Tube and filter, such as 120KV_AL43; without it line integrals at 60 keV.")
    ] = None,
    photons: Annotated[float | None, typer.Option(help="Quantum noise of so many photons a pixel in air.")] = None,
    scatter: Annotated[float | None, typer.Option(help="Scatter to primary behind a slab of 1/e; 0.1: a grid.")] = None,
    detector: Annotated[str | None, typer.Option(help="energy, photon or csi.")] = None,
    focal_spot: Annotated[float | None, typer.Option(help="The focal spot's side, mm.")] = None,
    blur: Annotated[float | None, typer.Option(help="The panel's own blur, full width at half maximum, mm.")] = None,
    field: Annotated[tuple[float, float] | None, typer.Option(help="Height and width left open, mm.")] = None,
    metal: Annotated[str | None, typer.Option(help="titanium or steel: what is above 3000 HU; else bone.")] = None,
    transition: Annotated[float | None, typer.Option(help="Mix tissues over so many HU at their thresholds.")] = None,
    values: Annotated[
        str | None, typer.Option(help="With these: intensity, or line_integral, which is estimated from it.")
    ] = None,
    floor: Annotated[
        float | None,
        typer.Option(help="What lies below so many HU adds nothing (default: -1000; XctNet's have theirs)."),
    ] = None,
    jitter_source: Annotated[float, typer.Option(help="Move the source at random by up to so many mm.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of noise and jitter.")] = 0,
) -> None:
    """Make X-rays of a CT, as files that say by themselves how they were taken."""
    from raylift.data.drr import make_drr
    from raylift.data.exposure import exposure_of

    exposure = exposure_of(
        preset,
        spectrum=spectrum,
        photons=photons,
        scatter=scatter,
        detector=detector,
        focal_spot_mm=focal_spot,
        blur_mm=blur,
        field_mm=field,
        metal=metal,
        transition_hu=transition,
        values=values,
    )
    with busy("projecting"):
        xrays = make_drr(
            ct,
            out,
            views=views or ("PA", "LAT"),
            preset=preset,
            pixels=pixels,
            keep_table=keep_table,
            exposure=exposure,
            floor_hu=floor,
            jitter_source_mm=jitter_source,
            seed=seed,
        )
    kind = {"intensity": "intensities, 1 in air", "line_integral": "line integrals"}.get(
        xrays[0].values, "above a floor, no scale"
    )
    print(f"{', '.join(xray.view for xray in xrays)} ({kind}) and geometry.json: {shown(out)}")
