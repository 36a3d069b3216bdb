"""A message is one line that can be read, whatever the user gave."""

import errno
import os
import pickle
import subprocess
import sys
import threading

import pytest

from plugins.errors import InputError, message_of, user_errors


def test_a_message_is_one_line_of_a_length_that_can_be_read():
    assert str(InputError("person 'a\nb'")) == r"person 'a\nb'"
    assert str(InputError("frame " + "9" * 5000 + " : expected 0")) == (
        f"frame {'9' * 30}...{'9' * 30} : expected 0"
    )
    assert len(str(InputError("many words " * 5000))) < 3100
    path = "/data" + "/folder" * 50
    assert path in str(InputError(f"{path}: no such file"))


def test_a_message_survives_pickling_and_the_traceback_of_a_worker():
    error = InputError("a.jpg: empty")
    assert str(pickle.loads(pickle.dumps(error))) == "a.jpg: empty"
    worker = "Caught InputError in worker 0.\nOriginal Traceback (most recent call last):\n  File\n"
    assert message_of(InputError(f"{worker}plugins.errors.InputError: a.jpg: empty")) == (
        "a.jpg: empty"
    )


@pytest.mark.parametrize(
    ("number", "status"),
    [(errno.ENOSPC, 1), (errno.EROFS, 2), (errno.EFBIG, 1), (errno.EDQUOT, 1)],
)
def test_a_disk_that_takes_no_more_is_one_line(capsys, number, status):
    @user_errors(kept="all is kept")
    def main():
        raise OSError(number, os.strerror(number), "out/a.png")

    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == status
    said = f"error: out/a.png: cannot be written: {os.strerror(number)}; all is kept\n"
    assert capsys.readouterr().err == said


def test_a_defect_keeps_its_traceback():
    @user_errors
    def main():
        raise OSError(errno.EBADF, "a bad file descriptor")

    with pytest.raises(OSError, match="a bad file"):
        main()


@pytest.mark.slow
def test_a_full_shared_memory_is_told_with_its_cure(capsys):
    """What a worker of a DataLoader sends, with 64 KB of /dev/shm."""

    @user_errors
    def main():
        raise RuntimeError(
            "Caught RuntimeError in DataLoader worker process 0.\nRuntimeError: unable to allocate "
            "shared memory(shm) for file </torch_15413_2469373803_0>: No space left on device (28)"
        )

    with pytest.raises(SystemExit) as stop:
        main()
    told = capsys.readouterr().err
    assert stop.value.code == 1 and told.count("\n") == 1
    assert "--shm-size" in told and "DATALOADER.NUM_WORKERS 0" in told


@pytest.mark.slow
def test_a_reader_that_has_enough_ends_a_command_without_a_word():
    code = "from plugins.errors import user_errors\n@user_errors\ndef main():\n"
    code += "    while True:\n        print('x' * 9999)\nmain()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.read(100)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


@pytest.mark.slow
def test_a_thread_that_a_full_disk_ends_is_one_line(capsys):
    def write(error):
        raise error

    @user_errors
    def main(error, fails):
        thread = threading.Thread(target=write, args=(error,))
        thread.start()
        thread.join()
        if fails:
            raise error

    full = OSError(errno.ENOSPC, "No space left on device")
    main(full, fails=False)
    told = "a thread that writes files has ended: No space left on device\n"
    assert capsys.readouterr().err == told
    with pytest.raises(SystemExit):
        main(full, fails=True)
    assert capsys.readouterr().err.startswith("error: cannot be written: No space left on device; ")
