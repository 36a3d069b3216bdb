"""Write small videos and the table that lists them."""

import csv

import av
import numpy as np

from plugins.data.datasets.manifest import COLUMNS

SHADES = (20, 80, 140, 200, 240)


def write_video(path, shades=SHADES):
    """A gray video without loss, a frame for each shade."""
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 64, "bgr0"
        for shade in shades:
            pixels = np.full((64, 32, 3), shade, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def write_table(folder, *rows):
    with open(folder / "videos.csv", "w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
