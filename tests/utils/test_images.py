import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from plugins.errors import InputError
from plugins.utils import images
from plugins.utils.images import ENDINGS, MAX_PIXELS, OTHER_ENDINGS, decode_image, read_image

ROOT = Path(__file__).parents[2]
PIXELS = np.random.default_rng(0).integers(0, 256, (10, 6, 3), dtype=np.uint8)
ENDING_OF = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "WEBP": ".webp", "TIFF": ".tif"}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("kind", ENDING_OF)
def test_every_format_and_mode_is_read_as_pillow_reads_it(tmp_path, kind, mode):
    path = tmp_path / "x.jpg"  # the ending means nothing
    try:
        Image.fromarray(PIXELS).convert(mode).save(path, format=kind)
    except OSError:
        pytest.skip(f"{kind} has no {mode}")
    found = read_image(path)
    assert found.mode == "RGB"
    assert np.array_equal(found, Image.open(path).convert("RGB"))


def test_it_is_the_one_place_that_opens_images():
    """Another one would start Ghostscript, wait for a pipe or drop the low bytes again."""
    openers = [
        str(path.relative_to(ROOT))
        for folder in ("plugins", "tools")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"Image\.open\(|imread\(|read_file\(|decode_image\(", path.read_text())
    ]
    assert sorted(openers) == [
        "plugins/benchmarks/loader.py",  # the bare loop beside which ours is measured
        "plugins/data/corruptions.py",  # this one and the next read what they wrote into memory
        "plugins/robustness/checks/harness.py",
        "plugins/utils/images.py",
    ]


@pytest.mark.parametrize("kind", ["GIF", "PPM", "TGA", "ICO", "EPS", "PDF", "JPEG2000", "PCX"])
def test_other_formats_are_refused_whatever_they_are_called(tmp_path, kind):
    path = tmp_path / "x.jpg"
    Image.fromarray(PIXELS).save(path, format=kind)
    with pytest.raises(InputError, match=r"x\.jpg: .*expected JPEG, PNG, BMP, WebP or TIFF"):
        read_image(path)


def test_no_program_is_started_for_postscript(tmp_path, monkeypatch):
    """Pillow itself starts Ghostscript, ``gs``, for an EPS file of any name."""
    ghostscript, marker = tmp_path / "gs", tmp_path / "started"
    ghostscript.write_text(f"#!/bin/sh\ntouch {marker}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    path = tmp_path / "x.jpg"
    Image.fromarray(PIXELS).save(path, format="EPS")
    script = f"from PIL import Image; Image.open({str(path)!r}).load()"
    subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert marker.exists(), "the trap works"
    marker.unlink()
    with pytest.raises(InputError):
        read_image(path)
    assert not marker.exists()


def test_a_pipe_is_not_waited_for(tmp_path):
    path = tmp_path / "pipe.jpg"
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"pipe\.jpg: not a regular file"):
        read_image(path)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_no_image(path):
    with pytest.raises(InputError, match="not a regular file"):
        read_image(path)


def test_a_link_to_a_file_is_followed_and_a_broken_one_is_missing(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "x.png")
    (tmp_path / "link.png").symlink_to("x.png")
    assert np.array_equal(read_image(tmp_path / "link.png"), PIXELS)
    (tmp_path / "x.png").unlink()
    with pytest.raises(InputError, match=r"link\.png: no such frame"):
        read_image(tmp_path / "link.png")


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_16_bits_a_channel_are_refused(tmp_path, channels, ending):
    """Of several channels Pillow reads the high bytes, and calls what remains RGB."""
    deep = np.random.default_rng(0).integers(0, 2**16, (10, 6, channels), dtype=np.uint16)
    path = tmp_path / f"x{ending}"
    assert cv2.imwrite(str(path), deep)
    with pytest.raises(InputError, match=rf"x{ending}: 16 or 32 bits a channel \(.*\); expected 8"):
        read_image(path)
    assert cv2.imwrite(str(path), (deep >> 8).astype(np.uint8))
    assert read_image(path).size == (6, 10)


def test_16_bits_in_an_uncompressed_tiff_are_refused_too(tmp_path):
    path = tmp_path / "x.tif"
    deep = np.full((10, 6, 3), 3000, np.uint16)
    cv2.imwrite(str(path), deep, [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    with pytest.raises(InputError, match="16 or 32 bits a channel"):
        read_image(path)


def test_the_limit_on_pixels_names_the_key(tmp_path):
    path = tmp_path / "x.png"
    Image.new("1", (200, 100)).save(path)
    assert read_image(path, 20000).size == (200, 100)
    with pytest.raises(InputError) as caught:
        read_image(path, 19999)
    assert str(caught.value) == (
        f"{path}: 200 x 100 pixels; expected at most 19999; for larger images raise "
        "INPUT.MAX_PIXELS"
    )


@pytest.mark.filterwarnings("error")
def test_pillows_own_limit_neither_warns_nor_stands_in_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = tmp_path / "x.png"
    for side in (12, 100):  # where Pillow warns, and where it refuses
        Image.new("RGB", (side, side)).save(path)
        assert read_image(path).size == (side, side)
    assert images.MAX_PIXELS == MAX_PIXELS == 89_478_485  # as Pillow's default


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (1, 1)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">2I", 30000, 30000)  # of the header chunk, with its checksum
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"bomb\.png: 30000 x 30000 pixels"):
        read_image(path)


@pytest.mark.parametrize("ending", [".png", ".webp", ".tif"])
def test_a_file_of_several_pictures_is_refused(tmp_path, ending):
    """The second would never be seen."""
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    path = tmp_path / f"x{ending}"
    first.save(path, save_all=True, append_images=[second])
    with pytest.raises(InputError, match="it holds several pictures; expected one"):
        read_image(path)


def test_of_a_stereo_camera_the_photograph_is_read(tmp_path):
    """MPO: a JPEG with a second picture behind it, which other readers of JPEG do not see."""
    path = tmp_path / "x.jpg"
    first = Image.fromarray(PIXELS)
    first.save(path, format="MPO", save_all=True, append_images=[Image.new("RGB", (6, 10))])
    assert np.array_equal(read_image(path), Image.open(path).convert("RGB"))


def test_a_name_that_no_file_has_is_one_line():
    with pytest.raises(InputError, match="no such frame: embedded null byte"):
        read_image("a\0.png")


def test_an_open_file_is_decoded_from_its_beginning(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(PIXELS).save(path)
    with open(path, "rb") as file:
        file.seek(20)
        assert np.array_equal(decode_image(file, "x"), PIXELS)
        assert not file.closed


def test_no_file_stays_open(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(PIXELS).save(path)
    before = len(os.listdir("/proc/self/fd"))
    kept = [read_image(path) for _ in range(5)]
    assert len(os.listdir("/proc/self/fd")) == before, kept


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ENDING_OF)
def test_damaged_bytes_raise_nothing_but_input_errors(tmp_path, kind):
    path = tmp_path / "x"
    Image.fromarray(PIXELS).save(path, format=kind)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged[: random.integers(1, len(whole) + 1)])
        try:
            assert read_image(path, 10**6).mode == "RGB"
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 50


def test_no_ending_is_both_read_and_left():
    assert not set(ENDINGS) & set(OTHER_ENDINGS)
    assert set(ENDING_OF.values()) <= set(ENDINGS)
    assert all(ending == ending.lower() for ending in ENDINGS + OTHER_ENDINGS)
