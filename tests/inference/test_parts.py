"""The parts of an extraction that was interrupted."""

import pytest

from plugins.errors import InputError
from plugins.inference.parts import IDENTITY, Parts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", r": found \[1\]; expected a mapping, what an extraction was started with"),
        ("null", ": found null; expected a mapping, what an extraction was started with"),
        ("{", ":1: .*; expected what an extraction was started with"),
    ],
)
def test_a_damaged_record_of_an_extraction_is_one_line(text, message, tmp_path):
    file = tmp_path / IDENTITY
    Parts(tmp_path, {"items": 3})
    Parts(tmp_path, {"items": 3})
    with pytest.raises(InputError, match=r"holds parts of another extraction \(items differ\)"):
        Parts(tmp_path, {"items": 4})
    file.write_text(text)
    with pytest.raises(InputError, match=rf"^{file}{message}"):
        Parts(tmp_path, {"items": 3})
