"""The folder of a spine: label map, meshes, pictures in 3-D, the table, and one page that opens offline."""

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, hsv_to_rgb
from matplotlib.figure import Figure

from raylift import DISCLAIMER, io
from raylift.io.files import filled_folder
from raylift.io.mesh import Mesh, write_mesh
from raylift.report.html import embedded, rendered
from raylift.report.render3d import Part, render
from raylift.segment.surface import distances_to, surface
from raylift.segment.vertebrae import LEVELS, Vertebrae, as_volume
from raylift.spine import Spine
from raylift.spine.places import write_places

DISTANCE_MM = 4.0  # ours: the ends of the colours
DISTANCE_COLOURS = "RdBu"  # red: the reconstruction lies inside the truth, as in EAR's Fig. 7
SHOWN = ("T11", "L2", "L5")  # EAR Fig. 5
VIEWS = ("front", "left", "oblique")
INCH_MM = 55.0  # so many millimetres of the patient an inch of picture
PIXEL_MM = 0.5


def colour_of(level: str) -> np.ndarray:
    """The level's colour, RGB in [0, 1]; neighbours differ."""
    k = LEVELS.index(level) if level in LEVELS else len(LEVELS)
    return hsv_to_rgb((0.07 + 0.618 * k % 1.0, 0.5 + 0.12 * (k % 2), 0.98))


def surfaces(vertebrae: Vertebrae) -> dict[str, Mesh]:
    """The closed surface of each level, LPS mm."""
    found = {}
    for level in vertebrae.levels:
        mask, grid = vertebrae.part(level)
        found[level] = surface(mask, grid, name=level)
    return found


def write_spine(spine: Spine, out: Path | str, *, mesh_type: str = "stl", frame: str = "LPS") -> Path:
    """Fills the folder `out`, and returns it: vertebrae.nii.gz (VerSe's numbers), a mesh a level and one of all,
    spine.png, in a study distance.png and places.json, spine.html and spine.json.
    """
    meshes = surfaces(spine.vertebrae)
    distances = {} if spine.truth is None else _distances(meshes, spine.truth)
    with filled_folder(out, last="spine.json") as folder:
        io.write_ct(as_volume(spine.vertebrae), folder / "vertebrae.nii.gz")
        (folder / "meshes").mkdir()
        for level, mesh in meshes.items():
            note = f"{level}; {spine.vertebrae.how}"
            write_mesh(mesh, folder / "meshes" / f"{level}.{mesh_type}", frame=frame, note=note)
        _write_coloured(meshes, distances, folder, frame)
        if spine.pixels:
            write_places(spine.pixels, folder / "places.json")
        pictures = {"spine.png": levels_figure(spine, meshes)}
        if distances:
            pictures["distance.png"] = distance_figure(meshes, distances)
        for name, picture in pictures.items():
            (folder / name).write_bytes(picture)
        spine.manifest["meshes"] = {level: _about(mesh) for level, mesh in meshes.items()}
        spine.manifest["mesh_frame"] = frame
        (folder / "spine.html").write_text(page(spine.manifest, pictures), encoding="utf-8")
        content = json.dumps(spine.manifest, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "spine.json").write_text(content + "\n", encoding="utf-8")
    return Path(out)


def _distances(meshes: Mapping[str, Mesh], truth: Vertebrae) -> dict[str, np.ndarray]:
    return {level: distances_to(mesh, *truth.part(level)) for level, mesh in meshes.items() if level in truth.spans}


def _about(mesh: Mesh) -> dict[str, Any]:
    return {
        "triangles": len(mesh.faces),
        "volume_ml": round(mesh.volume_mm3 / 1000, 3),
        "watertight": mesh.watertight,
    }


def _write_coloured(meshes: Mapping[str, Mesh], distances, folder: Path, frame: str) -> None:
    """All levels in one PLY by their colours; with a truth, each level's signed distances on its own vertices."""
    first = np.cumsum([0, *(len(m.vertices_mm) for m in meshes.values())])
    whole = Mesh(
        vertices_mm=np.concatenate([m.vertices_mm for m in meshes.values()]),
        faces=np.concatenate([m.faces + k for m, k in zip(meshes.values(), first, strict=False)]),
    )
    colours = np.concatenate([np.tile(colour_of(k), (len(m.vertices_mm), 1)) for k, m in meshes.items()])
    write_mesh(whole, folder / "spine.ply", frame=frame, colours=np.round(255 * colours), note="one colour a level")
    for level, values in distances.items():
        seen = np.round(255 * _heat(values))
        note = f"{level}; value: signed distance to the true surface, mm, negative inside"
        write_mesh(
            meshes[level], folder / "meshes" / f"{level}-distance.ply",
            frame=frame, colours=seen, values=values, note=note,
        )  # fmt: skip


def _heat(values) -> np.ndarray:
    return colormaps[DISTANCE_COLOURS](Normalize(-DISTANCE_MM, DISTANCE_MM)(values))[:, :3]


def levels_figure(spine: Spine, meshes: Mapping[str, Mesh]) -> bytes:
    """A PNG: the spine from the front, left and behind, a colour a level; below it the true one where it is known."""
    rows = {"reconstructed" if spine.truth is not None else "": meshes}
    if spine.truth is not None:
        rows["true"] = {k: m for k, m in surfaces(spine.truth).items() if k in meshes}
    box = _box(meshes, *rows.values())
    panels = [
        [(f"{name}, {view}" if name else view, _picture(each, view, box)) for view in VIEWS]
        for name, each in rows.items()
    ]
    return _sheet([[panel for row in panels for panel in row]], spine.vertebrae.how, names=meshes)


def distance_figure(meshes: Mapping[str, Mesh], distances: Mapping[str, np.ndarray]) -> bytes:
    """A PNG: the reconstructed surface coloured by its signed distance to the true one; three levels by themselves."""
    parts = [Part(mesh=meshes[level], colour=_heat(values)) for level, values in distances.items()]
    box = _box({level: meshes[level] for level in distances})
    whole = [(view, render(parts, view, pixel_mm=PIXEL_MM, box_mm=box)) for view in ("front", "left", "back")]
    alone = []
    for level in _some(list(distances)):
        part = Part(mesh=meshes[level], colour=_heat(distances[level]))
        for view in ("oblique", "left", "top"):
            alone.append((f"{level}, {view}", render([part], view, pixel_mm=PIXEL_MM / 2)))
    told = f"signed distance to the true surface, ± {DISTANCE_MM:g} mm; red: the reconstruction is too small there"
    return _sheet([whole, *[alone[k : k + 3] for k in range(0, len(alone), 3)]], told, scale=True)


def _some(levels: list[str]) -> list[str]:
    """T11, L2 and L5, or the first, middle and last where these are not there."""
    there = [level for level in SHOWN if level in levels]
    return there if len(there) == 3 else [levels[k] for k in sorted({0, len(levels) // 2, len(levels) - 1})]


def _box(*rows: Mapping[str, Mesh]):
    points = np.concatenate([m.vertices_mm for meshes in rows for m in meshes.values()])
    return points.min(0), points.max(0)


def _picture(meshes: Mapping[str, Mesh], view: str, box):
    parts = [Part(mesh=mesh, colour=colour_of(level)) for level, mesh in meshes.items()]
    return render(parts, view, pixel_mm=PIXEL_MM, box_mm=box)


def _sheet(rows, told: str, *, scale: bool = False, names: Mapping[str, Any] | None = None) -> bytes:
    """Pictures in rows, each in its own size, with a colour bar or a legend."""
    wide = max(sum(p.shape[1] for _, p in row) for row in rows)
    tall = [max(p.shape[0] for _, p in row) for row in rows]
    inch = 110  # pixels
    size = (max(wide / inch + 1.6, 6.0), sum(tall) / inch + 0.32 * len(rows) + 0.8)
    figure = Figure(figsize=size, dpi=inch, facecolor="white")
    FigureCanvasAgg(figure)
    top = 1 - 0.45 / size[1]
    for row, height in zip(rows, tall, strict=True):
        left = 0.1 / size[0]
        for title, picture in row:
            w, h = picture.shape[1] / inch / size[0], picture.shape[0] / inch / size[1]
            axes = figure.add_axes((left, top - 0.22 / size[1] - h, w, h))
            axes.imshow(picture, aspect="auto")
            axes.set_axis_off()
            figure.text(left, top - 0.05 / size[1], title, fontsize=7, va="top")
            left += w + 0.05 / size[0]
        top -= height / inch / size[1] + 0.3 / size[1]
    if scale:
        axes = figure.add_axes((1 - 1.0 / size[0], 0.3, 0.18 / size[0], 0.4))
        bar = figure.colorbar(ScalarMappable(Normalize(-DISTANCE_MM, DISTANCE_MM), DISTANCE_COLOURS), cax=axes)
        bar.set_label("mm", fontsize=8)
    for k, level in enumerate(names or ()):
        place = 1 - (0.75 + 0.19 * k) / size[1]
        figure.text(1 - 0.9 / size[0], place, f"■ {level}", color=0.85 * colour_of(level), fontsize=9, va="center")
    figure.text(0.01, 1 - 0.08 / size[1], told, fontsize=8, va="top")
    figure.text(0.99, 1 - 0.08 / size[1], DISCLAIMER, fontsize=7, va="top", ha="right", color="#b3261e")
    stream = BytesIO()
    figure.savefig(stream, format="png", metadata={"Description": DISCLAIMER})
    return stream.getvalue()


def page(manifest: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The page's HTML: notes, pictures, the table against the truth, the measurements, and the whole manifest."""
    return rendered(
        "spine.html",
        manifest=manifest,
        pictures={name: embedded(p) for name, p in pictures.items()},
        errors=error_rows(manifest.get("table", [])),
        measures=measure_rows(manifest),
        angles=angle_rows(manifest),
        content=json.dumps(manifest, indent=1, ensure_ascii=False),
    )


def error_rows(table: list[dict]) -> list[list[str]]:
    """The study's table: level, then distances (mm) and Dice as text; the last row is the mean."""
    names = ("placed_mm", "centroid_mm", "dice", "assd_mm", "hd95_mm", "signed_mm")
    rows = [[row["level"], *(_text(row.get(name), 3 if name == "dice" else 2) for name in names)] for row in table]
    if len(table) > 1:
        means = [[row[name] for row in table if name in row] for name in names]
        rows.append(["mean", *(_text(np.mean(v), 3 if n == "dice" else 2) for n, v in zip(names, means, strict=True))])
    return rows


def measure_rows(manifest: Mapping[str, Any]) -> list[list[str]]:
    """Level, anterior, middle, posterior height (mm), wedge (degrees), depth, width (mm); the truth in brackets."""
    names = ("anterior_mm", "middle_mm", "posterior_mm", "wedge_deg")
    true = {row["level"]: row for row in manifest.get("beside", {}).get("levels", [])}
    rows = []
    for level, body in manifest["bodies"].items():
        cells = [_text(body[name], 1) for name in names]
        if level in true:
            cells = [f"{c} ({_text(true[level]['true_' + n], 1)})" for c, n in zip(cells, names, strict=True)]
        rows.append([level, *cells, _text(body["depth_mm"], 1), _text(body["width_mm"], 1)])
    return rows


def angle_rows(manifest: Mapping[str, Any]) -> list[list[str]]:
    """Cobb angle, kyphosis and lordosis with their levels; the truth in the last column where it is known."""
    true = manifest.get("beside", {}).get("true_angles")
    named = {"cobb": "largest Cobb angle", "kyphosis": "kyphosis", "lordosis": "lordosis"}
    found = manifest["angles"] if true is None else manifest["beside"]["angles"]
    rows = [[title, _angle(found[key]), *([] if true is None else [_angle(true[key])])] for key, title in named.items()]
    at_true = manifest.get("beside", {}).get("cobb_at_true_levels_deg")
    if true is not None and at_true is not None:
        rows.append(["Cobb angle at the true curve's levels", f"{at_true:.1f}°", _angle(true["cobb"])])
    return rows


def _angle(told: Mapping[str, Any] | None) -> str:
    if told is None:
        return "–"
    value = told.get("deg", told.get("cobb_deg"))
    side = f", convex to the {told['convex']}" if "convex" in told else ""
    return f"{value:.1f}° ({told['upper']} to {told['lower']}{side})"


def _text(value, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
