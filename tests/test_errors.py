import os
import pickle

import pytest

from fgvr.errors import SampleError, UserError, shown, unseen


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("Süßwasser-Möwe 红隼 เสือ", "Süßwasser-Möwe 红隼 เสือ"),
        ("a\x1b[31mred\x1b[0m\x07", r"a\x1b[31mred\x1b[0m\x07"),
        ("two\nlines\r\tand more", r"two\nlines\r\tand more"),
        ("csi\x9b2J", r"csi\x9b2J"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\u2028b\ue000", r"a\u2028b\ue000"),
        (os.fsdecode(b"a\xff.jpg"), r"a\xff.jpg"),
        ("\ud800", r"\ud800"),
        ("क्\u200dष", "क्\u200dष"),  # a joiner belongs to the word
        (r"as\x1bwritten", r"as\x1bwritten"),
    ],
)
def test_what_a_terminal_obeys_is_shown_as_an_escape(text, seen):
    assert shown(text) == seen
    assert not any(map(unseen, shown(text)))
    assert shown(seen) == seen


def test_what_is_kept_stays():
    assert shown("a\nb\tc\x1b", keep="\n\t") == "a\nb\tc\\x1b"


@pytest.mark.parametrize("kind", [UserError, SampleError])
def test_an_error_can_be_printed_whatever_it_names(kind):
    error = kind("wren\x1b[2J/1.jpg must be\na photo")
    assert str(error) == "wren\\x1b[2J/1.jpg must be\na photo"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
