"""Mistakes that Lightning finds: what it says and what to set."""

from __future__ import annotations

import pytest

from fgvr.errors import UserError
from fgvr.settings.translated import evaluating, refused_by_trainer, training


def test_what_this_machine_lacks_says_what_to_set():
    instead = "Set trainer.accelerator to cpu, or to auto for the best that there is."
    assert str(refused_by_trainer(TypeError("No supported gpu backend found!"))).endswith(f"found! {instead}")
    assert str(refused_by_trainer(ValueError("no such plugin"))) == "trainer: no such plugin"


def test_an_interval_longer_than_an_epoch_says_how_it_is_counted():
    said = " `val_check_interval` (100) must be less than or equal to the batches (3). If you want to."
    with (
        pytest.raises(UserError, match=r"batches \(3\): lower it, or set trainer\.check_val_every_n_epoch"),
        training(),
    ):
        raise ValueError(said)
    with pytest.raises(ValueError, match="a mistake of ours"), training():
        raise ValueError("a mistake of ours")


def test_weights_that_do_not_fit_are_the_users_to_mend():
    with pytest.raises(UserError, match="does not fit the model of this config"), evaluating():
        raise RuntimeError("Error(s) in loading state_dict for SFT: size mismatch")
    with pytest.raises(RuntimeError, match="a mistake of ours"), evaluating():
        raise RuntimeError("a mistake of ours")
