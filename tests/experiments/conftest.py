from collections.abc import Iterator

import pytest

from tests.helpers.dry_models import try_each_model_once


@pytest.fixture(autouse=True, scope="module")
def _each_model_is_tried_once() -> Iterator[None]:
    """Rows of a file are checked each time it is read; what a check finds, tests/engine tests."""
    with pytest.MonkeyPatch.context() as patch:
        try_each_model_once(patch)
        yield
