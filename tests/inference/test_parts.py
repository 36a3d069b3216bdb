"""The parts of an extraction that was interrupted."""

import json

import numpy as np
import pytest
import torch

from plugins.errors import InputError
from plugins.inference.parts import IDENTITY, LABELS, Parts, labels_digest


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
    Parts(tmp_path, {"items": 3}).write(0, torch.ones(1, 2), torch.zeros(1))
    assert len(Parts(tmp_path, {"items": 3}).read()) == 1
    with pytest.raises(InputError, match=r"holds parts of another extraction \(items differ\)"):
        Parts(tmp_path, {"items": 4})
    file.write_text(text)
    with pytest.raises(InputError, match=rf"^{file}{message}"):
        Parts(tmp_path, {"items": 3})


def test_a_folder_without_a_part_holds_no_extraction(tmp_path):
    Parts(tmp_path, {"items": 3})
    assert Parts(tmp_path, {"items": 4}).read() == []
    assert json.loads((tmp_path / IDENTITY).read_text()) == {"items": 4}


@pytest.mark.parametrize("name", LABELS)
def test_each_label_of_each_item_is_in_the_digest(name):
    columns = {label: np.array(["a", "b", "c"]) for label in LABELS}
    changed = {**columns, name: np.array(["a", "b", "x"])}
    assert labels_digest(changed) != labels_digest(columns)
    swapped = {**columns, name: np.array(["b", "a", "c"])}
    assert labels_digest(swapped) != labels_digest(columns)
