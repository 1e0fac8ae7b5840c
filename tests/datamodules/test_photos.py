from pathlib import Path

import pytest

from fgvr.data.closed_world import ClosedWorld
from fgvr.data.tasks import OpenWorld
from fgvr.datamodules.photos import photos_for
from fgvr.errors import UserError


def test_predicting_needs_photos_and_a_task_that_asks_without_a_label(tmp_path: Path):
    with pytest.raises(UserError, match=r"--data\.init_args\.predict"):
        photos_for(OpenWorld(), None)
    with pytest.raises(UserError, match=r"ClosedWorld draws its options around the label: give .*OpenWorld"):
        photos_for(ClosedWorld(), tmp_path)
