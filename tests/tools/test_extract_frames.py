import os
import re
import socket
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from plugins.data.conversion.videos import decode, extract_frames, find_gap
from plugins.data.datasets.manifest import ManifestDataset
from plugins.data.frames import read_frame
from plugins.errors import InputError
from plugins.utils.locks import hold
from tests.helpers import commands
from tests.helpers.videos import SHADES, write_table, write_video

TOOL = Path(__file__).parents[2] / "tools/extract_frames.py"


def command(folder, *words):
    return [sys.executable, TOOL, folder / "videos.csv", "--out", folder / "out", *words]


def run(folder, *words):
    return commands.run(command(folder, *words))


@pytest.fixture
def videos(tmp_path):
    (tmp_path / "my clips").mkdir()
    for name in ("a.mkv", "b.mkv", "c.mkv"):
        write_video(tmp_path / "my clips" / name)
    write_table(
        tmp_path,
        ("my clips/a.mkv", "ann", "north", "visible", "", "", "train"),
        ("my clips/b.mkv", "bob", "north", "infrared", "", "", "query"),
        (tmp_path / "my clips/c.mkv", "bob", "south", "visible", "", "", "gallery"),
    )
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("words", "shades"), [((), SHADES), (("--every", "2"), SHADES[::2])])
def test_every_video_becomes_a_tracklet_of_its_frames(videos, words, shades):
    done = subprocess.run(command(videos, *words), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    data = ManifestDataset(root=str(videos), file="out/manifest.csv")
    items = [*data.train, *data.query, *data.gallery]
    assert [(item.pid, item.camid, item.modality) for item in items] == [
        (0, 0, 0),
        (1, 0, 1),
        (1, 1, 0),
    ]
    for item in items:
        frames = [read_frame(path) for path in item.img_paths]
        assert [frame.unique().tolist() for frame in frames] == [[shade] for shade in shades]
        assert all(frame.shape == (3, 64, 32) for frame in frames)


@pytest.mark.slow
def test_a_video_filmed_upright_with_a_turned_phone_stands_upright(tmp_path):
    """Its pixels lie, and its header says by how much."""
    lying = tmp_path / "lying.mp4"
    with av.open(lying, "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        pixels = np.zeros((32, 64, 3), np.uint8)
        pixels[:, :32] = 255  # the left half is what is up
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    video = lying.read_bytes()
    matrix = video.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2
    quarter = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 32 << 16, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(video[:matrix] + quarter + video[matrix + len(quarter) :])
    write_table(tmp_path, ("a.mp4", "ann", "north", "visible", "", "", "train"))
    assert run(tmp_path).returncode == 0
    (item,) = ManifestDataset(root=str(tmp_path), file="out/manifest.csv").train
    frame = read_frame(item.img_paths[0])
    assert frame.shape == (3, 64, 32)
    assert frame[:, :28].min() > 200 and frame[:, 36:].max() < 50


@pytest.mark.slow
def test_bad_input_is_one_line_and_leaves_nothing(videos):
    table = (videos / "videos.csv").read_text()
    cases = {
        table.replace("b.mkv", "gone.mkv"): "videos.csv:3: ",
        table.replace("my clips/a.mkv", "videos.csv"): "videos.csv:2: ",
        table.replace(",query", ",test"): "split is 'test'",
        table.splitlines()[0] + "\n": "videos.csv: it lists no videos",
    }
    for text, message in cases.items():
        (videos / "videos.csv").write_text(text)
        done = run(videos)
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert {path.name for path in videos.iterdir()} == {"my clips", "videos.csv"}
    (videos / "out").mkdir()
    assert "it is there already" in run(videos).stderr
    assert "is a file; expected a folder" in run(videos, "--out", TOOL / "x").stderr
    assert "--every 0: expected 1" in run(videos, "--every", "0").stderr


@pytest.mark.parametrize(
    ("cells", "complaint"),
    [
        (("1", "0"), "tracklet '1', frame 0; expected both empty: a row is a whole video"),
        (("", "2"), "tracklet '', frame 2; expected both empty"),
        (("", ""), "a.mkv is listed at "),
    ],
)
def test_a_table_of_frames_or_of_a_video_twice_is_refused(tmp_path, cells, complaint):
    row = ("a.mkv", "ann", "north", "visible", *cells, "train")
    write_table(tmp_path, ("a.mkv", "ann", "north", "visible", "", "", "train"), row)
    with pytest.raises(InputError, match=rf"videos\.csv:3: {complaint}"):
        extract_frames(str(tmp_path / "videos.csv"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_video_under_two_names_is_refused(tmp_path):
    (tmp_path / "a.mkv").touch()
    (tmp_path / "b.mkv").symlink_to("a.mkv")
    cells = ("ann", "north", "visible", "", "", "train")
    for again in ("./a.mkv", f"{tmp_path}/a.mkv", "b.mkv"):
        write_table(tmp_path, ("a.mkv", *cells), (again, *cells))
        with pytest.raises(InputError, match=rf"csv:3: {again} is listed at .*csv:2 too as a\.mkv"):
            extract_frames(str(tmp_path / "videos.csv"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_another_extraction_is_filling_is_left_alone(videos):
    frame = videos / "out.part" / "train" / "0001.png"
    with hold(videos / "out.part", "--out", "extraction"):
        frame.parent.mkdir()
        frame.touch()
        with pytest.raises(InputError, match=r"out\.part: in use by another extraction, process "):
            extract_frames(str(videos / "videos.csv"), videos / "out")
        assert frame.exists()


CODECS = {
    "a.mkv": ("libx264", "yuv420p"),
    "b.mkv": ("ffv1", "bgr0"),
    "c.avi": ("mpeg4", "yuv420p"),
    "d.avi": ("mjpeg", "yuvj420p"),
    "e.ts": ("libx264", "yuv420p"),
    "f.ts": ("mpeg2video", "yuv420p"),
    "g.mp4": ("libx264", "yuv420p"),
    "h.webm": ("libvpx", "yuv420p"),
    "i.mov": ("mpeg4", "yuv420p"),
    "j.mpg": ("mpeg2video", "yuv420p"),
}


def write_film(path, codec, pixel_format, frames=40, *, sound=False, steps=None):
    """A film with something to code; ``steps`` between its frames, of 1/25 s."""
    still = np.random.default_rng(0).integers(0, 256, (96, 64, 3), dtype=np.uint8)
    with av.open(path, "w") as container:
        video = container.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = 64, 96, pixel_format
        audio = container.add_stream("aac", rate=44100) if sound else None
        time = 0
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.roll(still, number, 0), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 25)
            time += steps[number % len(steps)] if steps else 1
            container.mux(video.encode(frame))
        container.mux(video.encode())
        for number in range(100 if sound else 0):  # 2.3 s, more than the film's 1.6
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
            frame.sample_rate, frame.pts = 44100, 1024 * number
            container.mux(audio.encode(frame))
        if sound:
            container.mux(audio.encode())


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """One of each kind."""
    folder = tmp_path_factory.mktemp("films")
    for name, kind in CODECS.items():
        write_film(folder / name, *kind)
    return folder


def frames_of(path):
    return list(decode(str(path), "videos.csv:2"))


@pytest.mark.parametrize("name", CODECS)
def test_a_whole_film_is_read_to_its_end_in_silence(films, name, caplog):
    assert len(frames_of(films / name)) == 40
    assert not caplog.records


@pytest.mark.parametrize("share", [0.35, 0.6, 0.9])
@pytest.mark.parametrize("name", CODECS)
def test_a_film_that_is_cut_off_is_named(films, tmp_path, name, share):
    """Of 60 frames 13 to 57 were taken, and nothing was said."""
    whole = (films / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError) as caught:
        frames_of(path)
    assert re.match(
        rf"videos\.csv:2: {path}: (it ends after [\d.]+ of 1\.60 s|it holds \d+ of 40 frames"
        r"|it ends within a packet|(frame|packet) \d+ is damaged|not a whole video: )",
        str(caught.value),
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.mkv", "c.avi", "e.ts", "i.mov"])
def test_a_frame_that_is_damaged_is_named(films, tmp_path, name):
    path = tmp_path / name
    damaged = bytearray((films / name).read_bytes())
    middle = len(damaged) // 2
    for place in range(middle, middle + 400):
        damaged[place] ^= 0x55
    path.write_bytes(damaged)
    words = r"(frame|packet) \d+ is damaged|it ends after [\d.]+ of 1\.60 s|not a whole video"
    with pytest.raises(InputError, match=words):
        frames_of(path)


def test_words_of_another_encoding_in_a_film_do_not_matter(tmp_path):
    with av.open(tmp_path / "x.avi", "w") as container:
        container.metadata["title"] = "a long title"
        video = container.add_stream("mjpeg", rate=25)
        video.width, video.height, video.pix_fmt = 64, 96, "yuvj420p"
        container.mux(video.encode(av.VideoFrame(64, 96, "yuvj420p")))
        container.mux(video.encode())
    film = (tmp_path / "x.avi").read_bytes()
    (tmp_path / "x.avi").write_bytes(film.replace(b"a long title", b"\xcd\xf5\xce\xb0 a title"))
    assert len(frames_of(tmp_path / "x.avi")) == 1


@pytest.mark.parametrize("name", ["x.mkv", "x.mp4", "x.mov"])
def test_sound_that_is_longer_than_the_film_is_no_loss(tmp_path, name, caplog):
    write_film(tmp_path / name, "libx264", "yuv420p", sound=True)
    assert len(frames_of(tmp_path / name)) == 40
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError):
        frames_of(tmp_path / name)


@pytest.mark.parametrize("name", ["x.mkv", "x.mp4", "x.mov"])
def test_a_rate_that_changes_is_no_loss(tmp_path, name, caplog):
    """As phones film."""
    write_film(tmp_path / name, "libx264", "yuv420p", steps=(1, 2, 1, 3, 1, 1, 2))
    assert len(frames_of(tmp_path / name)) == 40
    assert not caplog.records


def test_an_edit_list_that_leaves_frames_out_is_no_loss(films, tmp_path):
    """A phone's "trim" shortens what is shown and keeps the rest in the file."""
    film = bytearray((films / "g.mp4").read_bytes())
    struct.pack_into(">I", film, film.index(b"elst") + 12, 800)  # of 1,600 ms, ISO 14496-12, 8.6.6
    struct.pack_into(">I", film, film.index(b"mvhd") + 20, 800)
    (tmp_path / "x.mp4").write_bytes(film)
    assert len(frames_of(tmp_path / "x.mp4")) == 20


def test_frames_that_a_steady_film_lacks_are_warned_of(tmp_path, caplog):
    write_film(tmp_path / "x.mkv", "libx264", "yuv420p", steps=(1,) * 19 + (4,))
    assert len(frames_of(tmp_path / "x.mkv")) == 40
    (record,) = caplog.records
    assert record.getMessage() == (
        f"videos.csv:2: {tmp_path}/x.mkv: 3 frames are missing from a steady 25 a second, the "
        "first after 0.76 s"
    )


def test_steps_that_are_rounded_to_milliseconds_are_steady():
    times = [round(number / 30, 3) for number in range(60)]
    assert find_gap(times, 0.001) == ""
    assert find_gap(times[:20] + times[22:], 0.001).startswith("2 frames are missing from a steady")
    assert find_gap([0.0, 1.0], 0.001) == find_gap([0.0, None, 2.0], 0.001) == ""
    assert find_gap([0.0, 0.0, 0.0, 0.0], 0.001) == ""


def test_a_pipe_or_a_playlist_fetches_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(InputError, match=r"pipe\.mp4: not a regular file"):
        frames_of(tmp_path / "pipe.mp4")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        text = f"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:{port}/x.ts\n#EXT-X-ENDLIST\n"
        (tmp_path / "list.mp4").write_text(text)
        with pytest.raises(InputError, match=r"list\.mp4: not a whole video"):
            frames_of(tmp_path / "list.mp4")
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.slow
def test_a_film_that_ends_early_stops_the_command_and_leaves_nothing(videos):
    film = videos / "my clips" / "b.mkv"
    film.write_bytes(film.read_bytes()[:-300])
    done = run(videos)
    assert done.returncode == 2
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert line.startswith(f"error: {videos}/videos.csv:3: {film}: it ends after ")
    assert line.endswith("to take what is left of it, write it anew: ffmpeg -i OLD NEW")
    assert {path.name for path in videos.iterdir()} == {"my clips", "videos.csv"}
