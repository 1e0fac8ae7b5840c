from __future__ import annotations

import sys

import pytest
from transformers.utils import logging

from fgvr.models.bars import bars_on_terminals_alone


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("drawn", [True, False])
def test_bars_are_drawn_on_a_terminal_alone_and_afterwards_as_before(
    terminal: bool, drawn: bool, monkeypatch: pytest.MonkeyPatch
):
    before = logging.is_progress_bar_enabled()
    set_to = {True: logging.enable_progress_bar, False: logging.disable_progress_bar}
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    try:
        set_to[drawn]()
        with bars_on_terminals_alone():
            assert logging.is_progress_bar_enabled() is (terminal and drawn)
        assert logging.is_progress_bar_enabled() is drawn
    finally:
        set_to[before]()
