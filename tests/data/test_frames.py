import numpy as np
import pytest
import torch
from PIL import Image

from plugins.data.frames import channels_first, read_frame
from plugins.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (10, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp"])
def test_lossless_files_come_back_as_written(tmp_path, suffix):
    path = tmp_path / f"frame.{suffix}"
    Image.fromarray(PIXELS).save(path)
    frame = read_frame(str(path))
    assert frame.dtype == torch.uint8
    assert np.array_equal(frame.permute(1, 2, 0).numpy(), PIXELS)


def test_jpeg_is_decoded_as_opencv_decodes_it(tmp_path):
    cv2 = pytest.importorskip("cv2")
    smooth = np.asarray(Image.fromarray(PIXELS).resize((48, 96), Image.BILINEAR))
    path = tmp_path / "frame.jpg"
    Image.fromarray(smooth).save(path, quality=95)
    expected = cv2.imread(str(path))[:, :, ::-1].astype(int)
    found = read_frame(str(path)).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(found - expected).max() <= 2


def test_gray_becomes_three_equal_channels(tmp_path):
    path = tmp_path / "frame.png"
    Image.fromarray(PIXELS[:, :, 0]).save(path)
    frame = read_frame(str(path))
    assert frame.shape == (3, 10, 6)
    assert all(np.array_equal(channel.numpy(), PIXELS[:, :, 0]) for channel in frame)


def test_palette_and_alpha_become_rgb(tmp_path):
    path = tmp_path / "frame.png"
    opaque = np.concatenate([PIXELS, np.full((10, 6, 1), 255, np.uint8)], axis=2)
    Image.fromarray(opaque).save(path)
    assert np.array_equal(read_frame(str(path)).permute(1, 2, 0).numpy(), PIXELS)
    Image.fromarray(PIXELS).quantize(4).save(path)
    assert read_frame(str(path)).shape == (3, 10, 6)


def test_exif_orientation_is_applied(tmp_path):
    path = tmp_path / "frame.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    Image.fromarray(PIXELS).save(path, exif=exif)
    found = read_frame(str(path)).permute(1, 2, 0).numpy()
    assert np.array_equal(found, np.rot90(PIXELS, k=-1))


def test_a_missing_frame_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "gone.jpg"
    with pytest.raises(InputError, match="no such frame") as caught:
        read_frame(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp"])
def test_a_frame_cut_off_anywhere_is_an_error_that_names_it(tmp_path, suffix):
    path = tmp_path / f"frame.{suffix}"
    Image.fromarray(PIXELS).save(path)
    whole = path.read_bytes()
    for size in {0, 1, 10, len(whole) // 3, len(whole) // 2, len(whole) * 3 // 4}:
        path.write_bytes(whole[:size])
        with pytest.raises(InputError) as caught:
            read_frame(str(path))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_text_and_folders_are_not_frames(tmp_path):
    text = tmp_path / "frame.jpg"
    text.write_text("<html>404</html>")
    for path in (text, tmp_path):
        with pytest.raises(InputError, match="not a whole image"):
            read_frame(str(path))


@pytest.mark.parametrize(("kind", "mode"), [("uint16", "I;16"), ("int32", "I"), ("float32", "F")])
def test_more_than_8_bits_a_channel_are_refused(tmp_path, kind, mode):
    path = tmp_path / "frame.tiff"
    Image.fromarray(np.full((10, 6), 3000, kind)).save(path)
    with pytest.raises(InputError, match=rf"frame.tiff: 16 or 32 bits a channel \({mode}\)"):
        read_frame(str(path))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_bytes_raise_nothing_but_input_errors(tmp_path):
    path = tmp_path / "frame.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(path, exif=exif)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for place in random.integers(0, 200, 3):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            assert read_frame(str(path)).shape[0] == 3
        except InputError:
            refused += 1
    assert refused > 0


def test_channels_come_first_in_one_block():
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    pixels.flags.writeable = False  # as the frames of a cache
    found = channels_first(pixels)
    assert found.is_contiguous()
    assert np.array_equal(found.numpy(), pixels.transpose(2, 0, 1))
    found[:] = 0  # a copy
    assert pixels.any()
