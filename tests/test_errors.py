"""A message is one line that can be read, whatever the user gave."""

import pickle

from plugins.errors import InputError, message_of


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
