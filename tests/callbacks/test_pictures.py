import io
import re

import pytest
from PIL import Image

from fgvr.callbacks.pictures import COLOURS, answer_grid, class_table, confusion_table, escaped, verdict_bars
from fgvr.judges.base import Judged, Judgement
from fgvr.metrics import VERDICT_FIGURES
from fgvr.types import Answer, Example, Verdict


def entry(verdict: Verdict | None, said: str = "Wren", colour: str = "#123456") -> Judged:
    data = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(data, "PNG")
    example = Example("x", (data.getvalue(),), "Robin", ("Robin",), "val", "seen", "birds")
    if verdict is None:
        return Judged(example, said, None, None)
    return Judged(example, f"<answer>{said}</answer>", Answer(said), Judgement(verdict))


def colours(page: Image.Image) -> set[str]:
    return {"#" + bytes(colour).hex() for _, colour in page.getcolors(1 << 24) or []}  # pyright: ignore


@pytest.mark.parametrize("verdict", [None, *Verdict])
def test_a_card_shows_the_photo_and_the_verdicts_colour(verdict: Verdict | None) -> None:
    own = COLOURS[verdict.name.lower() if verdict is not None else "parse_failures"]
    shown = colours(answer_grid([entry(verdict)]))
    assert {own, "#123456"} <= shown
    assert not (set(COLOURS.values()) - {own}) & shown


@pytest.mark.parametrize(("count", "size"), [(1, (240, 322)), (3, (696, 322)), (5, (924, 632))])
def test_grid_fits_its_cards(count: int, size: tuple[int, int]) -> None:
    assert answer_grid([entry(Verdict.WRONG)] * count).size == size


def test_any_text_can_be_drawn() -> None:
    said = ["", "x" * 100_000, "<b>\x00\x1b[31m\u202e鳥\ud800", "a\nb\r\n" * 100]
    assert answer_grid([entry(verdict, text) for text in said for verdict in (Verdict.WRONG, None)]).width == 924


def test_bars_are_as_long_as_their_shares() -> None:
    shares = dict.fromkeys(VERDICT_FIGURES, 0.0) | {"wrong": 0.25, "specific": 0.75, "n": 8.0}
    page = verdict_bars({"seen": shares}, width=400)
    row = [page.getpixel((x, 12 + 24 + 2)) for x in range(page.width)]
    found = {name: row.count(tuple(bytes.fromhex(COLOURS[name][1:]))) for name in ("wrong", "specific", "generic")}
    assert found == {"wrong": pytest.approx(100, abs=1), "specific": pytest.approx(300, abs=2), "generic": 0}


def test_untrusted_text_stays_text() -> None:
    shown = escaped("<script>alert('x')</script> | [a](http://b) **c**\n# d_e\u202e `f`")
    assert not re.search(r"[<>|\[\]()*`_\n\u202e]", shown)
    assert not re.search(r"#(?!\d+;)", shown)
    assert shown.startswith("&#60;script&#62;alert")
    assert escaped("Ruby Finch") == "Ruby Finch"
    assert len(re.sub(r"&#\d+;", "x", escaped("y" * 500))) == 80


def test_tables_put_the_worst_first_and_say_what_they_leave_out() -> None:
    classes = {
        "A|a": {"n": 4, "exact": 4, "correct": 4, "parse_failures": 0},
        "B": {"n": 4, "exact": 1, "correct": 3, "parse_failures": 1},
        "C": {"n": 4, "exact": 2, "correct": 2, "parse_failures": 0},
    }
    lines = class_table(classes).splitlines()
    assert lines[2:] == ["| B | 4 | 1 | 3 | 1 |", "| C | 4 | 2 | 2 | 0 |", "| A&#124;a | 4 | 4 | 4 | 0 |"]
    assert "1 more classes" in class_table(classes, most=2)


def test_confusions_are_counted_without_the_right_answers() -> None:
    rows = [
        {"label": "A", "answer": "B", "verdict": "wrong"},
        {"label": "A", "answer": "A", "verdict": "specific"},
        {"label": "A", "answer": None, "verdict": None},
        {"label": "A", "answer": "B", "verdict": "wrong"},
    ]
    assert confusion_table(rows).splitlines()[2:] == ["| A | B | wrong | 2 |", "| A |  | no answer | 1 |"]
