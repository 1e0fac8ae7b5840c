from __future__ import annotations

from fgvr.watchdog.beats import allow, beat, is_watched, leave, meet


def test_where_nobody_watches_a_beat_is_nothing() -> None:
    assert not is_watched()
    beat("sampling", 3, seconds=1.0)
    allow(1.0)
    meet(0, None, ("", 0, ""))
    leave()
    assert not is_watched()
