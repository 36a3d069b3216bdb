"""JPEG frames are those of Pillow, to the bit and to the error, whichever decoder reads them."""

import io
import random

import numpy as np
import pytest
from PIL import Image

from plugins.errors import InputError
from plugins.utils import images
from plugins.utils.images import decode_image, read_pixels
from plugins.utils.jpeg import decode_plain_jpeg

SIZES = ((144, 288), (33, 65), (17, 31), (1, 1), (2, 3))
MOST = 10**6


def jpeg(size: tuple[int, int] = (33, 65), mode: str = "RGB", **options) -> bytes:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 5, 3), dtype=np.uint8))
    file = io.BytesIO()
    coarse.resize(size, Image.Resampling.BICUBIC).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def by_pillow(data: bytes) -> np.ndarray | str:
    try:
        return np.array(decode_image(io.BytesIO(data), "x.jpg", MOST))
    except InputError as error:
        return str(error)


def by_path(folder, data: bytes) -> np.ndarray | str:
    (folder / "x.jpg").write_bytes(data)
    try:
        return read_pixels(folder / "x.jpg", MOST)
    except InputError as error:
        return str(error).removeprefix(f"{folder}/")


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", SIZES)
def test_a_plain_file_gives_the_bytes_of_pillow(size, mode, quality, progressive):
    for subsampling in (0, 1, 2) if mode == "RGB" else (-1,):
        data = jpeg(size, mode, quality=quality, progressive=progressive, subsampling=subsampling)
        assert np.array_equal(decode_plain_jpeg(data, MOST), by_pillow(data))


def test_plain_files_do_not_wait_for_pillow(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "decode_image", None)
    assert by_path(tmp_path, jpeg()).shape == (65, 33, 3)
    with pytest.raises(TypeError):
        by_path(tmp_path, jpeg(exif=b"Exif\0\0"))


@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_orientation_is_applied(tmp_path, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    data = jpeg(exif=exif)
    assert decode_plain_jpeg(data, MOST) is None
    assert by_path(tmp_path, data).shape == ((65, 33, 3) if turn < 5 else (33, 65, 3))


def test_other_color_spaces_are_left_to_pillow(tmp_path):
    for data in (jpeg(mode="CMYK"), jpeg(keep_rgb=True)):
        assert np.array_equal(by_path(tmp_path, data), by_pillow(data))
    assert decode_plain_jpeg(jpeg(mode="CMYK"), MOST) is None


def test_large_files_are_refused_before_they_are_decoded(tmp_path):
    assert decode_plain_jpeg(jpeg((10, 10)), 100) is not None
    assert decode_plain_jpeg(jpeg((10, 10)), 99) is None
    (tmp_path / "x.jpg").write_bytes(jpeg((10, 10)))
    with pytest.raises(InputError, match=r"10 x 10 pixels; expected at most 99; .*MAX_PIXELS"):
        read_pixels(tmp_path / "x.jpg", 99)


@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_a_file_that_is_cut_off_is_read_or_refused_as_by_pillow(tmp_path, end):
    """With an end put behind the cut, Pillow reads it; OpenCV reads both, as half a picture."""
    data = jpeg()
    for length in range(3, len(data) - 2, 7):
        cut = data[:length] + end
        found, expected = by_path(tmp_path, cut), by_pillow(cut)
        assert type(found) is type(expected)
        assert np.array_equal(found, expected)
    assert "x.jpg: not a whole image" in by_path(tmp_path, data[: len(data) // 2])


def damaged(data: bytes, rng: random.Random) -> bytes:
    changed, place = bytearray(data), rng.randrange(2, len(data) - 2)
    match rng.randrange(3):
        case 0:
            for _ in range(rng.randint(1, 6)):
                changed[rng.randrange(2, len(data))] = rng.randrange(256)
        case 1:
            changed[place : place + 20] = bytes(min(20, len(data) - place))
        case 2:
            changed[place:place] = rng.randbytes(5)
    return bytes(changed)


@pytest.mark.slow
def test_damage_is_read_or_refused_as_by_pillow(tmp_path):
    rng = random.Random(0)
    whole = [
        jpeg(size, mode, restart_marker_blocks=blocks, progressive=progressive)
        for size in SIZES[1:3]
        for mode in ("RGB", "L")
        for blocks in (0, 3)
        for progressive in (False, True)
    ]
    refused = 0
    for _ in range(600):
        data = damaged(rng.choice(whole), rng)
        found, expected = by_path(tmp_path, data), by_pillow(data)
        assert type(found) is type(expected), expected
        assert np.array_equal(found, expected)
        refused += isinstance(expected, str)
    assert 30 < refused < 570
