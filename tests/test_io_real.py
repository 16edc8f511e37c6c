"""Real CTs and X-rays: upright, of the right size, and the same whichever way they are stored."""

import numpy as np
import pytest

from raylift import geometry, io
from raylift.errors import BadInput
from raylift.types import View

pytestmark = pytest.mark.real
CTS = ["lung-dx-a0001", "lidc-idri-0001/ct.nii.gz", "cmb-crc-01068/ct.nii.gz"]


@pytest.mark.parametrize("name", CTS)
def test_real_cts_are_upright(name, real):
    """Air lies before the chest, the table or the back behind it; the heart is left; the lungs lie above the belly."""
    ct = geometry.canonical(io.read_ct(real / "ct" / name))
    assert geometry.is_upright(ct.grid) and ct.hu.dtype == np.int16 and ct.hu.min() == -1024
    thick = (ct.hu[::4, ::4, ::4] > -300).astype(float)
    d, h, w = thick.shape
    columns = ct.hu.shape[2]
    bone = (ct.hu[:, :, columns * 2 // 5 : columns * 3 // 5] > 250).sum((0, 2))
    table = thick.sum((0, 2))
    first = int(np.argmax(table > 0.1 * table.max())) * 4  # the skin of the chest
    assert int(np.argmax(bone)) - first > 0.25 * ct.hu.shape[1]  # the spine lies far behind it
    lower, upper = thick[-d // 5 :].mean(), thick[d // 3 : 2 * d // 3].mean()
    assert lower > upper  # the belly lies below the lungs
    middle = thick[d // 2 : 3 * d // 4, h // 5 : h // 2, w // 4 : 3 * w // 4].sum((0, 1))
    assert middle[len(middle) // 2 :].sum() > middle[: len(middle) // 2].sum()  # the heart


def test_a_dicom_series_and_its_description_agree(real):
    told, ct = io.describe(real / "ct" / "lung-dx-a0001"), io.read_ct(real / "ct" / "lung-dx-a0001")
    assert told["shape"] == list(ct.hu.shape) == [64, 512, 512]
    assert np.allclose(told["spacing_mm"], [5, 0.841796875, 0.841796875])
    assert io.patient_of(real / "ct" / "lung-dx-a0001")


def test_a_monochrome1_tag_makes_the_negative(real):
    """The two RSNA files hold the same numbers; one says MONOCHROME1, and so shows the negative."""
    folder = real / "xray" / "rsna"
    plain = next(path for path in folder.iterdir() if path.name.startswith("1."))
    two, one = io.read_xray(plain), io.read_xray(folder / "Fake_MONOHR1.dcm")
    assert np.array_equal(one.pixels, 255 - two.pixels)
    assert two.pixel_mm == one.pixel_mm == (0.168, 0.168) and two.view == View.PA
    assert two.pixels[:60, :60].mean() < two.pixels[700:, 480:540].mean()  # air is dark, the spine bright


def test_an_ankle_asks_for_its_spacing(real):
    file = real / "xray" / "nema-rg3" / "RG3_J2KR.dcm"
    with pytest.raises(BadInput, match="--spacing"):
        io.read_xray(file)
    ankle = io.read_xray(file, spacing=0.1)
    assert ankle.pixels.shape == (1760, 1760) and ankle.view == View.AP


def test_a_real_pair_of_pictures_is_read(real):
    folder = real / "xray" / "pneumocystis-2"
    pa = io.read_xray(folder / "pneumocystis-pneumonia-2-PA.png", spacing=0.4, view=View.PA)
    lateral = io.read_xray(folder / "pneumocystis-pneumonia-2-L.png", spacing=0.4, view="LAT", lateral_faces="right")
    assert pa.pixels.shape == (954, 955) and lateral.pixels.shape == (907, 906)
