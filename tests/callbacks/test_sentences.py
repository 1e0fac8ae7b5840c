import logging
import warnings
from typing import Any

import pytest
from lightning_utilities.core.rank_zero import rank_zero_info
from torch.utils.data import DataLoader

from fgvr.callbacks.sentences import sentences

log = logging.getLogger("fgvr.callbacks")


def test_ours_are_said_and_noise_is_not(capsys: Any) -> None:
    with sentences(logging.INFO), warnings.catch_warnings(record=True) as warned:
        for message in ("This DataLoader will create 99 worker processes", "The `srun` command is available"):
            warnings.warn(message, stacklevel=1)
        log.info("The run goes on.")
        rank_zero_info("Tip: buy this")
    assert warned == []
    err = capsys.readouterr().err
    assert "The run goes on." in err
    assert "Tip" not in err
    log.info("Said to nobody.")
    assert "nobody" not in capsys.readouterr().err


def test_only_from_its_level_on(capsys: Any) -> None:
    with sentences(logging.ERROR):
        log.info("Rank 1 says the same.")
    assert not capsys.readouterr().err


def test_it_leaves_the_level_as_it_was() -> None:
    before = log.parent.level if log.parent else 0
    with sentences(logging.DEBUG):
        assert log.getEffectiveLevel() == logging.DEBUG
    assert log.parent is not None
    assert log.parent.level == before


def test_it_keeps_torch_from_saying_of_every_loader_what_is_said_once() -> None:
    with sentences(logging.INFO):
        DataLoader([1, 2, 3], num_workers=99)  # pyright: ignore[reportArgumentType]
    with pytest.warns(UserWarning, match="This DataLoader will create"):
        DataLoader([1, 2, 3], num_workers=99)  # pyright: ignore[reportArgumentType]
