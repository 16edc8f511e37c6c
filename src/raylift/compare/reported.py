"""What the papers' own numbers are of: the definition behind each, to stand beside ours."""

from collections.abc import Mapping
from typing import Any

DEFINED = {  # how a source's name in `Model.reported` begins -> how it measured, and which column of ours fits
    "XctNet": "LIDC-IDRI, augmented copies of a CT on both sides of the split; mean over axial slices, [0, 1], peak 1",
    "X2CT-GAN": "LIDC-IDRI; mean over slices of three axes, peak 4095 on a range of 2500 (4.3 dB more), equal slices "
    "100 dB; our column 'PSNR as X2CT-GAN's code'",
    "3DSRNet": "spine data sets, bone alone; X2CT-GAN's code: peak 4095, equal slices 100 dB (its own MSE says 32.7 dB "
    "where 45.5 stands); our column 'PSNR as X2CT-GAN's code'",
    "CVAA-GAN": "268 lumbar CTs, private; [0, 1] over -1000 to 4096 HU, peak 1; what it calls SD looks like variance",
    "Table I (56 lumbar CTs": "268 lumbar CTs, private; [0, 1] over -1000 to 4096 HU, peak 1; what it calls SD looks "
    "like variance",
    "EAR": "single vertebrae, standard scores; its PSNRs fit a peak of 7.4 to 7.8, the range of the scores, not the "
    "4096 that it states; FD min-max normalised within its table; our column 'PSNR as EAR's tables'",
    "X-Recon": "25 patients with pneumothorax; how its PSNR is defined is not known here",
}


def with_definitions(reported: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each source's numbers with how they were measured; another definition than ours unless it says so."""
    return [
        {"source": source, "values": dict(values), "definition": definition_of(source)}
        for source, values in reported.items()
    ]


def definition_of(source: str) -> str:
    """How a source measured; the longest beginning that fits decides."""
    fitting = [start for start in DEFINED if source.startswith(start)]
    return DEFINED[max(fitting, key=len)] if fitting else "its definition is not known here"
