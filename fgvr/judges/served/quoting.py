"""What a server wrote, made fit to be shown."""

from __future__ import annotations

import unicodedata

LONGEST = 200  # characters
TELLING = 8  # letters of a key in a row that may not be shown


def quoted(text: str | bytes, key: str = "") -> str:
    """One line of at most 200 characters, without control characters and without the key or telling pieces of it."""
    if isinstance(text, bytes):
        text = text[: 10 * LONGEST].decode("utf-8", "replace")
    shown = (letter for letter in text[: 10 * LONGEST] if letter.isspace() or unicodedata.category(letter)[0] != "C")
    text = _without(" ".join("".join(shown).split()), key)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _without(text: str, key: str) -> str:
    least = min(TELLING, len(key))
    if not least:
        return text
    kept: list[str] = []
    place = 0
    while place < len(text):
        end = place + least
        if end <= len(text) and text[place:end] in key:
            while end < len(text) and text[place : end + 1] in key:
                end += 1
            kept.append("[key]")
            place = end
        else:
            kept.append(text[place])
            place += 1
    return "".join(kept)
