"""Surfaces: closed, as large as their mask, where their mask is, in every format and frame; and their pictures."""

import json

import numpy as np
import pytest
import trimesh

from raylift import DISCLAIMER
from raylift.errors import BadInput, UnsupportedFormat
from raylift.io.mesh import Mesh, read_mesh, write_mesh
from raylift.report.render3d import VIEWS, Part, frame_of, render
from raylift.segment.surface import distances_to, surface
from raylift.types import Grid

GRID = Grid.canonical((40, 36, 44), (2.0, 1.0, 1.5), (10.0, -20.0, 30.0))


def ball(radius=14.0, centre=(10.0, -20.0, 30.0), grid=GRID):
    where = grid.world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))
    return np.linalg.norm(where - centre, axis=-1) < radius


def lopsided():
    """A block with a thin arm towards the patient's left."""
    mask = np.zeros(GRID.shape, bool)
    mask[8:24, 8:24, 8:20] = True
    mask[14:18, 14:18, 20:38] = True
    return mask


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("mask", [ball(), lopsided()], ids=["ball", "lopsided"])
def test_a_surface_is_closed_and_faces_outwards(mask, smooth):
    mesh = surface(mask, GRID, smooth=smooth)
    judged = trimesh.Trimesh(mesh.vertices_mm, mesh.faces, process=False)
    assert mesh.watertight and judged.is_watertight and judged.is_winding_consistent
    assert mesh.volume_mm3 > 0 and judged.volume == pytest.approx(mesh.volume_mm3)


@pytest.mark.parametrize("mask", [ball(), ball(6.0), lopsided()], ids=["ball", "small ball", "lopsided"])
def test_smoothing_keeps_the_volume_within_one_percent(mask):
    wanted = mask.sum() * np.prod(GRID.spacing_mm)
    assert surface(mask, GRID).volume_mm3 == pytest.approx(wanted, rel=0.01)


def test_a_mask_that_touches_the_grids_edge_is_closed_too():
    mask = np.ones((6, 6, 6), bool)
    mesh = surface(mask, Grid.canonical((6, 6, 6), 2.0))
    assert mesh.watertight and mesh.volume_mm3 == pytest.approx(216 * 8.0, rel=0.01)


def test_a_smoothed_ball_is_rounder_than_its_voxels():
    radii = [
        np.linalg.norm(surface(ball(), GRID, smooth=s).vertices_mm - GRID.centre_mm, axis=1) for s in (True, False)
    ]
    assert radii[0].std() < 0.5 * radii[1].std()
    assert radii[0].mean() == pytest.approx(14.0, abs=0.2)


def test_an_oblique_or_flipped_grid_gives_the_same_surface():
    mask, flip = lopsided(), GRID.affine.copy()
    flip[:3, 3] = GRID.world((0, 0, GRID.shape[2] - 1))
    flip[:3, 2] *= -1
    a, b = surface(mask, GRID), surface(mask[..., ::-1].copy(), Grid(GRID.shape, flip))
    assert b.volume_mm3 == pytest.approx(a.volume_mm3, rel=1e-3)
    assert b.vertices_mm.max(0) == pytest.approx(a.vertices_mm.max(0), abs=0.05)


def test_a_surface_lies_on_its_own_mask_and_off_a_larger_one_by_the_difference():
    mesh = surface(ball(), GRID)
    assert np.abs(distances_to(mesh, ball(), GRID)).mean() < 0.5
    assert distances_to(mesh, ball(11.0), GRID).mean() == pytest.approx(3.0, abs=0.4)  # outside it
    assert distances_to(mesh, ball(16.0), GRID).mean() == pytest.approx(-2.0, abs=0.4)  # inside it


@pytest.mark.parametrize("frame", ["LPS", "RAS"])
@pytest.mark.parametrize("suffix", ["stl", "ply", "obj"])
def test_a_mesh_comes_back_where_it_was(tmp_path, suffix, frame):
    mesh = surface(lopsided(), GRID)
    path = write_mesh(mesh, tmp_path / f"L1.{suffix}", frame=frame, note="L1")
    back = read_mesh(path)
    assert back.watertight and back.volume_mm3 == pytest.approx(mesh.volume_mm3, rel=1e-4)
    assert back.vertices_mm.min(0) == pytest.approx(mesh.vertices_mm.min(0), abs=1e-3)
    raw = trimesh.load_mesh(path)  # what another program sees
    sign = np.array([1, 1, 1]) if frame == "LPS" else np.array([-1, -1, 1])
    assert raw.vertices.mean(0) * sign == pytest.approx(back.vertices_mm.mean(0), abs=1.0)
    assert raw.is_watertight and raw.volume > 0
    side = json.loads(path.with_suffix(f".{suffix}.json").read_text())
    assert side["frame"] == frame and side["units"] == "mm" and side["watertight"] and side["disclaimer"] == DISCLAIMER


def test_the_frame_stands_in_the_file_itself(tmp_path):
    for suffix in ("stl", "ply", "obj"):
        path = write_mesh(surface(ball(), GRID), tmp_path / f"a.{suffix}", frame="RAS")
        side = path.with_suffix(f".{suffix}.json")
        side.unlink()
        assert read_mesh(path).vertices_mm.mean(0) == pytest.approx((10, -20, 30), abs=1)


def test_ply_keeps_colours_and_values(tmp_path):
    mesh = surface(ball(8.0), GRID)
    values = np.arange(len(mesh.vertices_mm), dtype=np.float32)
    colours = np.tile([255, 0, 10], (len(values), 1))
    read = trimesh.load_mesh(write_mesh(mesh, tmp_path / "a.ply", colours=colours, values=values), process=False)
    assert read.metadata["_ply_raw"]["vertex"]["data"]["value"].tolist() == values.tolist()
    assert (read.visual.vertex_colors[:, :3] == colours).all()


def test_what_is_no_mesh_is_refused(tmp_path):
    mesh = surface(ball(6.0), GRID)
    with pytest.raises(UnsupportedFormat, match=r"a\.vtk"):
        write_mesh(mesh, tmp_path / "a.vtk")
    with pytest.raises(LookupError, match="frame"):
        write_mesh(mesh, tmp_path / "a.stl", frame="XYZ")
    with pytest.raises(BadInput, match=r"b\.stl: no such file"):
        read_mesh(tmp_path / "b.stl")
    (tmp_path / "c.ply").write_bytes(b"ply\nnonsense")
    with pytest.raises(BadInput, match=r"c\.ply"):
        read_mesh(tmp_path / "c.ply")
    path = write_mesh(mesh, tmp_path / "d.stl")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BadInput, match=r"d\.stl"):
        read_mesh(path)
    with pytest.raises(BadInput, match="empty"):
        surface(np.zeros((4, 4, 4), bool), Grid.canonical((4, 4, 4), 1.0))


def test_an_open_surface_is_not_watertight():
    mesh = surface(ball(6.0), GRID)
    assert not Mesh(vertices_mm=mesh.vertices_mm, faces=mesh.faces[1:]).watertight
    turned = mesh.faces.copy()
    turned[0] = turned[0, ::-1]
    assert not Mesh(vertices_mm=mesh.vertices_mm, faces=turned).watertight


def seen(picture):
    return (picture < 250).any(-1)


@pytest.mark.parametrize("view", VIEWS)
def test_a_picture_shows_the_shadow_of_the_mask(view):
    mesh = surface(ball(), GRID)
    picture = render([Part(mesh=mesh, colour=np.array([0.8, 0.3, 0.2]))], view, pixel_mm=0.25, margin_mm=4.0)
    assert seen(picture).sum() * 0.25**2 == pytest.approx(np.pi * 14.0**2, rel=0.03)
    assert frame_of(view) @ frame_of(view).T == pytest.approx(np.eye(3), abs=1e-3)


def test_views_hang_as_on_a_light_box():
    """The arm points to the patient's left: at the viewer's right from the front, to the viewer from the left."""
    part = [Part(mesh=surface(lopsided(), GRID), colour=np.array([0.9, 0.9, 0.9]))]
    front, back, left = (seen(render(part, view)) for view in ("front", "back", "left"))
    assert front[:, -15:].sum() < 0.5 * front[:, 5:15].sum() and back[:, 5:15].sum() < 0.5 * back[:, -15:].sum()
    assert left.sum() < front.sum()


def test_what_is_nearer_covers_what_is_behind():
    near = Part(mesh=surface(ball(5.0, (10, -30, 30)), GRID), colour=np.array([1.0, 0, 0]))
    far = Part(mesh=surface(ball(9.0, (10, -15, 30)), GRID), colour=np.array([0, 0, 1.0]))
    for parts in ([near, far], [far, near]):
        picture = render(parts, "front").astype(int)
        middle = picture[picture.shape[0] // 2, picture.shape[1] // 2]
        assert middle[0] > 2 * middle[2]
        behind = render(parts, "back").astype(int)
        assert behind[behind.shape[0] // 2, behind.shape[1] // 2][2] > 100 > behind[0, 0, 0] - 200
    with pytest.raises(LookupError, match="view"):
        render([near], "below")
    with pytest.raises(BadInput, match="too large"):
        render([near], "front", pixel_mm=0.001)
