"""Each system of the papers, reduced, goes the whole way: it trains, resumes, is evaluated, and reconstructs a CT."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raylift import io, models
from raylift.data import store
from raylift.data.prepare import profiles
from raylift.data.records import target_record
from raylift.evaluate import evaluate
from raylift.geometry import preset_beam
from raylift.models.spec import Model
from raylift.physics import CHEST_WINDOW, ZScore, hu_to_mu
from raylift.projector import project
from raylift.reconstruct import reconstruct
from raylift.train import read_log, train
from raylift.types import Grid, View, Volume, Xray


def reduced(model: Model) -> Model:
    """The tiny copy, with two updates of one case."""
    size = model.tiny_size
    spacing = model.size * model.spacing / size
    options = {**model.options, **model.tiny}
    if "spacing" in options:
        options["spacing"] = spacing
    recipe = replace(model.recipe, batch_size=1, accumulate=1, epochs=2, epoch_steps=1, precision="no", augment="none")
    critic = {**model.discriminator_options, **model.tiny_discriminator}
    return replace(
        model,
        options=options,
        discriminator_options=critic,
        size=size,
        spacing=spacing,
        recipe=replace(recipe, poses="first"),
    )


def dataset(folder: Path, model: Model) -> Path:
    """Two balls of water in air, as the model's profile has them, with their true X-rays."""
    n, profile = model.size, profiles.get(model.profile)
    side = n * model.spacing
    names = ["c0", "c1"]
    for k, name in enumerate(names):
        grid = Grid.canonical((n,) * 3, model.spacing, (3.0 * k, 0, 0))
        place = grid.world(np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1)) - grid.centre_mm
        hu = np.where(np.linalg.norm(place, axis=-1) < side * (0.3 + 0.02 * k), 40.0, -1000.0).astype(np.float32)
        beams = {
            view: preset_beam(view, profile.preset, pixels=n, isocentre_mm=tuple(grid.centre_mm))
            for view in (View.PA, View.LAT)
        }
        xrays = project(hu_to_mu(torch.from_numpy(hu)), grid, list(beams.values())).numpy()
        ct = Volume(hu=hu, grid=grid, source=name)
        store.write_case(folder / "cases" / name, patient=name, ct=ct, xrays=xrays, beams=beams)
    target = ZScore(mean=-900.0, sd=300.0) if isinstance(model.target, ZScore) else model.target
    described = {
        "version": store.VERSION,
        "profile": profile.name,
        "preset": profile.preset,
        "spacing": model.spacing,
        "size": n,
        "views": ["PA", "LAT"],
        "target": target_record(target),
        "complete_rays": profile.complete_rays,
        "rays": profile.rays,
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    splits = {"splits": {"test": ["c1"], "train": ["c0"]}, "patients": {c: c for c in names}, "hash": "h"}
    (folder / "splits.json").write_text(json.dumps(splits))
    return folder


def xray_files(folder: Path, model: Model) -> list[Path]:
    """The test case's X-rays as DICOM files that say how they were taken."""
    case = store.open_dataset(folder).case("c1")
    paths = []
    for view, beam, pixels in zip(case.views, case.beams, case.xrays(), strict=True):
        if view in model.views:
            xray = Xray(
                pixels=np.array(pixels),
                view=view,
                beam=beam,
                pixel_mm=beam.pixel_mm,
                values="line_integral",
                isocentre_mm=tuple(float(x) for x in case.grid.centre_mm),
                source="ball",
            )
            paths.append(folder / f"{view}.dcm")
            io.write_xray_dicom(xray, paths[-1])
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(name for name, model in models.MODELS.items() if model.recipe is not None))
def test_a_system_trains_resumes_is_evaluated_and_reconstructs(name, tmp_path):
    model = reduced(models.get(name))
    folder = dataset(tmp_path / "set", model)
    run = tmp_path / "run"
    train(model, model.recipe, folder, run, steps=1, device="cpu")
    again = train(model, model.recipe, folder, run, steps=2, resume=True, device="cpu")
    assert again.step == 2 and sum(row["kind"] == "step" for row in read_log(run)) == 2
    scores = evaluate(run, folder, window=CHEST_WINDOW, device="cpu")
    assert not scores.failed and np.isfinite(scores.cases["c1"]["psnr"])
    result = reconstruct(*xray_files(folder, model), model=run, device="cpu")
    assert result.ct.grid.shape == (model.size,) * 3 and np.isfinite(result.ct.hu).all()
