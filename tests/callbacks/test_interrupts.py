import logging
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from fgvr.callbacks.interrupts import ctrl_c_as_before, say_if_ctrl_c_is_ignored


@pytest.fixture
def given_back() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("before", [signal.default_int_handler, signal.SIG_IGN])
def test_ctrl_c_is_what_it_was(given_back: None, before: Any) -> None:
    signal.signal(signal.SIGINT, before)
    with ctrl_c_as_before():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as lightning does when it is stopped
    assert signal.getsignal(signal.SIGINT) == before


def test_only_what_is_ignored_is_said(given_back: None, caplog: Any) -> None:
    with caplog.at_level(logging.INFO, logger="fgvr"):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        say_if_ctrl_c_is_ignored()
        assert not caplog.text
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        say_if_ctrl_c_is_ignored()
    assert "stops the run" in caplog.text
