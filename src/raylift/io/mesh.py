"""Surfaces of triangles in and out: STL, PLY, OBJ, always in mm; the frame stands in the file and beside it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from raylift import DISCLAIMER
from raylift.errors import BadInput, UnsupportedFormat, unknown_name
from raylift.io.files import PathLike, existing, shown, whole_file

SUFFIXES = (".stl", ".ply", ".obj")
FRAMES = ("LPS", "RAS")  # 3D Slicer takes an STL for LPS unless it says RAS; Blender and CAD do not care
TO_LPS = {"LPS": np.ones(3), "RAS": np.array([-1.0, -1.0, 1.0])}
LARGEST = 400_000_000  # bytes; ours: a larger file is no bone


@dataclass(frozen=True, kw_only=True, eq=False)
class Mesh:
    """Triangles: `vertices_mm` (LPS) and `faces`, three numbers of vertices each, anticlockwise seen from outside."""

    vertices_mm: Float[np.ndarray, "n 3"]
    faces: Int[np.ndarray, "m 3"]

    @property
    def volume_mm3(self) -> float:
        """What a closed surface encloses; positive where its triangles face outwards."""
        a, b, c = (self.vertices_mm[self.faces[:, k]] for k in range(3))
        return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)

    @property
    def watertight(self) -> bool:
        """True where each edge belongs to two triangles that run along it in opposite directions."""
        edges = np.concatenate([self.faces[:, [0, 1]], self.faces[:, [1, 2]], self.faces[:, [2, 0]]]).astype(np.int64)
        count = int(self.faces.max()) + 1 if len(self.faces) else 1
        there, back = edges[:, 0] * count + edges[:, 1], edges[:, 1] * count + edges[:, 0]
        return bool(len(np.unique(there)) == len(there) and np.array_equal(np.sort(there), np.sort(back)))


def write_mesh(
    mesh: Mesh,
    path: PathLike,
    *,
    frame: str = "LPS",
    colours: np.ndarray | None = None,
    values: np.ndarray | None = None,
    note: str = "",
) -> Path:
    """Writes `mesh` by the suffix (.stl, .ply, .obj), mm in `frame`, and returns where; `<name>.json` beside says so.

    PLY also keeps `colours` (n, 3; 0 to 255) and `values` (n), one each vertex, such as a signed distance in mm.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UnsupportedFormat(f"{shown(path)}: a mesh is written as {', '.join(SUFFIXES)}")
    if frame not in FRAMES:
        raise unknown_name("frame", frame, FRAMES)
    turned = mesh.vertices_mm * TO_LPS[frame]  # two axes flip: a turn, the triangles keep facing outwards
    comment = " ".join(f"raylift; millimetres, {frame}. {note} {DISCLAIMER}".split())
    writer = {".stl": _stl, ".ply": _ply, ".obj": _obj}[path.suffix.lower()]
    with whole_file(path) as beside:
        beside.write_bytes(writer(turned, mesh.faces, comment, colours, values))
    side = {
        "file": path.name,
        "units": "mm",
        "frame": frame,
        "vertices": len(mesh.vertices_mm),
        "triangles": len(mesh.faces),
        "volume_mm3": round(mesh.volume_mm3, 3),
        "watertight": mesh.watertight,
        "note": note,
        "disclaimer": DISCLAIMER,
    }
    with whole_file(path.with_suffix(path.suffix + ".json")) as beside:
        beside.write_text(json.dumps(side, indent=1) + "\n", encoding="utf-8")
    return path


def read_mesh(path: PathLike, *, frame: str | None = None) -> Mesh:
    """The mesh in a file, LPS mm. Without `frame` the JSON beside it says which, then the file's comment, then LPS."""
    import trimesh

    path = existing(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UnsupportedFormat(f"{shown(path)}: no mesh; one of {', '.join(SUFFIXES)}")
    if path.stat().st_size > LARGEST:
        raise BadInput(f"{shown(path)}: {path.stat().st_size:,} bytes, the limit is {LARGEST:,}")
    frame = frame or _frame_of(path)
    try:
        read = trimesh.load_mesh(path, process=False)
        vertices, faces = np.asarray(read.vertices, np.float64), np.asarray(read.faces, np.int64)
    except (ValueError, KeyError, IndexError, AttributeError, TypeError, ImportError, NotImplementedError) as error:
        raise BadInput(f"{shown(path)}: cannot be read as a mesh ({' '.join(str(error).split())[:100]})") from None
    if len(faces) == 0 or not np.isfinite(vertices).all():
        raise BadInput(f"{shown(path)}: holds no triangle, or a vertex that is not finite")
    if path.suffix.lower() == ".stl":  # which repeats each vertex for each of its triangles
        vertices, inverse = np.unique(vertices, axis=0, return_inverse=True)
        faces = inverse.reshape(-1)[faces]
    return Mesh(vertices_mm=vertices * TO_LPS[frame], faces=faces)


def _frame_of(path: Path) -> str:
    side = path.with_suffix(path.suffix + ".json")
    if side.is_file():
        try:
            told = json.loads(side.read_text(encoding="utf-8")).get("frame")
        except (ValueError, AttributeError, UnicodeDecodeError):
            raise BadInput(f"{shown(side)}: is no JSON that states the mesh's frame; mend or remove it") from None
        if told not in FRAMES:
            raise BadInput(f"{shown(side)}: the frame must be one of {', '.join(FRAMES)}")
        return told
    with open(path, "rb") as file:
        start = file.read(400)
    return "RAS" if b"RAS" in start and b"LPS" not in start else "LPS"


def _stl(vertices, faces, comment: str, colours, values) -> bytes:
    corners = vertices[faces].astype("<f4")
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(across, axis=1, keepdims=True)
    record = np.zeros(len(faces), np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("more", "<u2")]))
    record["normal"], record["corners"] = across / np.maximum(length, 1e-30), corners
    head = comment.encode("ascii", "replace")[:80].ljust(80)
    return head + np.uint32(len(faces)).astype("<u4").tobytes() + record.tobytes()


def _ply(vertices, faces, comment: str, colours, values) -> bytes:
    kinds = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
    kinds += [] if colours is None else [("red", "u1"), ("green", "u1"), ("blue", "u1")]
    kinds += [] if values is None else [("value", "<f4")]
    points = np.zeros(len(vertices), np.dtype(kinds))
    for k, name in enumerate("xyz"):
        points[name] = vertices[:, k]
    if colours is not None:
        for k, name in enumerate(("red", "green", "blue")):
            points[name] = np.asarray(colours)[:, k]
    if values is not None:
        points["value"] = values
    corners = np.zeros(len(faces), np.dtype([("count", "u1"), ("corners", "<i4", 3)]))
    corners["count"], corners["corners"] = 3, faces
    names = {"<f4": "float", "u1": "uchar"}
    head = ["ply", "format binary_little_endian 1.0", f"comment {comment}", f"element vertex {len(vertices)}"]
    head += [f"property {names[kind]} {name}" for name, kind in kinds]
    head += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    return "\n".join(head).encode("ascii", "replace") + points.tobytes() + corners.tobytes()


def _obj(vertices, faces, comment: str, colours, values) -> bytes:
    lines = [f"# {comment}"]
    lines += ["v {:.5f} {:.5f} {:.5f}".format(*point) for point in vertices]
    lines += ["f {} {} {}".format(*(face + 1)) for face in faces]
    return ("\n".join(lines) + "\n").encode("ascii", "replace")
