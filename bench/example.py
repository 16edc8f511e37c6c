"""The shipped real case by every method that has weights or needs none: scores against its true CT, one line each.

`python bench/example.py`. LIDC-IDRI-0001 was never trained on; the X-rays are read back from the shipped DICOM files.
"""

from collections.abc import Sequence
from pathlib import Path

from raylift import io, models, reconstruct
from raylift.data.prepare.resample import on_grid_of
from raylift.geometry import canonical
from raylift.models.spec import Model
from raylift.models.weights import find_weights
from raylift.report import tables
from raylift.types import Volume

CASE = Path(__file__).parents[1] / "examples" / "lidc-idri-0001"


def rows(truth: Volume, chosen: Sequence[Model]) -> list[list[str]]:
    """Model, consistency, PSNR (dB), SSIM, MAE (HU), re-projection error of each view, seconds."""
    found = []
    for model in chosen:
        xrays = [CASE / f"{view}.dcm" for view in model.views]
        for refine in [True] if model.recipe is None else [False, True]:
            result = reconstruct(*xrays, model=model.name, refine=refine)
            score = tables.scores(result.ct, *on_grid_of(result.ct, truth))
            errors = [each["after" if refine else "before"]["relative_l2"] for each in _errors(result)]
            found.append(
                [
                    model.name,
                    "yes" if refine else "no",
                    f"{score['psnr']:.2f}",
                    f"{score['ssim']:.3f}",
                    f"{score['mae']:.0f}",
                    " / ".join(f"{100 * error:.1f} %" for error in errors),
                    f"{result.manifest['runtime_s']['total']:.0f}",
                ]
            )
    return found


def _errors(result) -> list[dict]:
    return list(result.manifest["reprojection"].values())


if __name__ == "__main__":
    truth = canonical(io.read_ct(CASE / "ct.nii.gz"))
    head = ["model", "consistent", "PSNR, dB", "SSIM", "MAE, HU", "re-projection error", "seconds"]
    print("Volume, window -1024 to 1476 HU, where the true CT fills the cube.\n")
    able = [m for m in models.MODELS.values() if m.recipe is None or find_weights(m.name) is not None]
    print(tables.markdown(head, rows(truth, able)))
