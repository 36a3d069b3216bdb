"""Open and decode image files; no other module does.

A file may hold anything, whatever its name ends with. Five formats are read, which Pillow decodes
by itself; others start another program (EPS starts Ghostscript) or come with decoders that are
attacked more often than they are needed here.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from plugins.errors import InputError
from plugins.utils.jpeg import START, decode_plain_jpeg

# First bytes -> Pillow's reader. They are called instead of Image.open, whose limit on pixels is
# one for the whole process. JpegImageFile reads the first picture of an MPO file, the photograph.
READERS: dict[bytes, type[ImageFile]] = {
    b"\xff\xd8\xff": JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"BM": BmpImageFile,
    b"RIFF": WebPImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
    b"II+\0": TiffImageFile,  # BigTIFF
    b"MM\0+": TiffImageFile,
}
FORMATS = "JPEG, PNG, BMP, WebP or TIFF"
# How names of such files end, in lower case.
ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff")
# How names of others end that hold pictures or video, for those who look for what was not read.
OTHER_ENDINGS = (
    *(".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".tga", ".psd", ".eps", ".ps", ".pdf", ".svg", ".ico", ".exr", ".hdr", ".raw", ".dng"),
    *(".cr2", ".nef", ".arw", ".npy", ".npz"),
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".ts", ".mts", ".mpg", ".mpeg", ".wmv"),
)
MAX_PIXELS = 2**30 // 4 // 3  # a quarter of a GiB of RGB
BITS_PER_SAMPLE = 258  # tag of TIFF 6.0


def read_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image file whole.

    Args:
        path: of a regular file, or of a link to one.
        max_pixels: width times height that a file may have (INPUT.MAX_PIXELS).

    Returns:
        RGB, 8 bits a channel, upright: the orientation in EXIF is applied. Gray becomes three equal
        channels, transparency is dropped.

    Raises:
        InputError: names the file if it is missing, not a regular file, of another format, empty,
            cut off or damaged; or has more than 8 bits a channel, more than ``max_pixels``, or
            several pictures, such as an animation.
    """
    with _opened(path) as file:
        return decode_image(file, str(path), max_pixels)


def read_pixels(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read the pixels of an image file: those of :func:`read_image`, but JPEG sooner.

    Args:
        path: as of :func:`read_image`.
        max_pixels: likewise.

    Returns:
        (H, W, 3) uint8, RGB, writable.

    Raises:
        InputError: from :func:`read_image`.
    """
    with _opened(path) as file:
        if file.read(len(START)) == START and os.fstat(file.fileno()).st_size <= 3 * max_pixels:
            file.seek(0)
            pixels = decode_plain_jpeg(file.read(), max_pixels)
            if pixels is not None:
                return pixels
        return np.array(decode_image(file, str(path), max_pixels))


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a regular file to read an image from it; see :func:`read_image` for errors."""
    try:
        # Without O_NONBLOCK, a pipe named .jpg would be waited for until somebody writes into it.
        with open(path, "rb", opener=_open_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f"{path}: not a regular file")
            yield file
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such frame") from None
    except OSError as error:
        raise InputError(f"{path}: not a whole image: {error.strerror or error}") from error
    except ValueError as error:  # a name that holds NUL
        raise InputError(f"{str(path)!r}: no such frame: {error}") from error


def decode_image(file: BinaryIO, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image from a file that is open; see :func:`read_image`.

    Args:
        file: open for reading, anywhere in it.
        name: of the file, for the message.
        max_pixels: as of :func:`read_image`.
    """
    try:
        with _identify(file, name) as image:
            _check_header(image, name, max_pixels)
            return ImageOps.exif_transpose(image).convert("RGB")
    except InputError:
        raise
    # Pillow's decoders report damage by many kinds of exception, struct.error among them.
    except Exception as error:
        raise InputError(f"{name}: not a whole image: {error}") from error


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _identify(file: BinaryIO, name: str) -> ImageFile:
    """Open a file with Pillow's reader of its format, which reads the header.

    Raises:
        InputError: it begins like none of the formats that are read.
        Exception: of Pillow, it is damaged.
    """
    file.seek(0)
    head = file.read(8)
    file.seek(0)
    for signature, reader in READERS.items():
        if head.startswith(signature):
            return reader(file)
    raise InputError(f"{name}: not a whole image: expected {FORMATS}")


def _check_header(image: ImageFile, name: str, max_pixels: int) -> None:
    """Raise InputError for an image that is refused without being decoded."""
    width, height = image.size
    if width * height > max_pixels:
        raise InputError(
            f"{name}: {width} x {height} pixels; expected at most {max_pixels}; for larger images "
            "raise INPUT.MAX_PIXELS"
        )
    if _has_deep_channels(image):  # convert would cut these off
        raise InputError(f"{name}: 16 or 32 bits a channel ({image.mode}); expected 8")
    if getattr(image, "is_animated", False):
        raise InputError(f"{name}: it holds several pictures; expected one")


def _has_deep_channels(image: ImageFile) -> bool:
    """Tell whether a channel has more than 8 bits in the file.

    The mode does not always tell: Pillow reads the high bytes of 16-bit RGB and calls it RGB.
    """
    if image.mode.startswith(("I", "F")):
        return True
    if isinstance(image, TiffImageFile):
        return max(image.tag_v2.get(BITS_PER_SAMPLE, (1,))) > 8
    return isinstance(image, PngImageFile) and any(";16" in str(tile[3]) for tile in image.tile)
