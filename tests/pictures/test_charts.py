import io
import itertools

import pytest
from PIL import Image

from fgvr.metrics import VERDICT_FIGURES
from fgvr.metrics.confusions import Confusion, Shown
from fgvr.metrics.lengths import Stretch
from fgvr.pictures import charts
from fgvr.pictures.charts import LINES, best_of_curves, confusion_grid, length_curves, verdict_bars
from fgvr.pictures.drawing import COLOURS


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def places(page: Image.Image, colour: str) -> list[tuple[int, int]]:
    found = itertools.product(range(page.width), range(page.height))
    return [place for place in found if page.getpixel(place) == rgb(colour)]


def shown(colour: str, label: str = "Ruby") -> Shown:
    data = io.BytesIO()
    Image.new("RGB", (60, 60), colour).save(data, "PNG")
    return Shown(0, label, data.getvalue())


def test_bars_are_as_long_as_their_shares() -> None:
    shares = dict.fromkeys(VERDICT_FIGURES, 0.0) | {"wrong": 0.25, "specific": 0.75, "n": 8.0}
    page = verdict_bars({"seen": shares}, width=400)
    row = [page.getpixel((x, 12 + 24 + 2)) for x in range(page.width)]
    found = {name: row.count(tuple(bytes.fromhex(COLOURS[name][1:]))) for name in ("wrong", "specific", "generic")}
    assert found == {"wrong": pytest.approx(100, abs=1), "specific": pytest.approx(300, abs=2), "generic": 0}


def test_every_bin_has_its_bar_and_its_colour() -> None:
    page = verdict_bars({"seen": dict.fromkeys(VERDICT_FIGURES, 1 / len(VERDICT_FIGURES)) | {"n": 8.0}}, width=400)
    assert list(COLOURS) == list(VERDICT_FIGURES)
    row = [page.getpixel((x, 12 + 24 + 2)) for x in range(page.width)]
    assert [row.count(rgb(COLOURS[name])) for name in VERDICT_FIGURES] == [pytest.approx(50, abs=2)] * 8


@pytest.mark.parametrize("ks", [[1], [1, 2, 4, 8], [1, 2, 4, 5]])
def test_a_curve_rises_with_its_figure(ks: list[int]) -> None:
    figures = {f"best_of/{k}/{name}": 0.0 for k in ks for name in ("specificity", "harmonic_mean")}
    figures |= {f"best_of/{k}/correctness": 0.25 + 0.5 * place / len(ks) for place, k in enumerate(ks)}
    page = best_of_curves({"seen": figures, "unseen": figures})
    assert page.size == (876, 332)
    plot = page.crop((12 + 44 - 6, 40, 12 + 420, 12 + 40 + 220))  # the first cohort's, above the legend
    drawn = places(plot, COLOURS["specific"])
    ends = [[y for x, y in drawn if x == edge] for edge in (6, 6 + 420 - 44 - 24)]
    assert ends[0]
    if len(ks) > 1:
        assert max(ends[1]) < min(ends[0])


def test_accuracy_stands_over_its_length() -> None:
    # 80 tokens at the most, so that the axis ends there; 736 pixels of it, 180 of the other, which stands on 44 + 200
    line = [Stretch(9, 20.0, 0.25, 0.0, 0.5), Stretch(9, 80.0, 0.75, 0.5, 1.0)]
    page = length_curves({"seen": line, "one length": [Stretch(4, 40.0, 0.5, 0.5, 0.5)], "nothing": []})
    left, floor, width, height = 12 + 44, 12 + 32 + 200, 840 - 24 - 88, 180
    for colour, stretches in zip(LINES, (line, [Stretch(4, 40.0, 0.5, 0.5, 0.5)]), strict=False):
        drawn = places(page.crop((0, 0, page.width, floor + 20)), colour)
        for one in stretches:
            x, y = left + width * one.tokens / 80, floor - height * one.exact
            assert (round(x), round(y)) in drawn
        longest = left + width * stretches[-1].tokens / 80
        assert max(x for x, _ in drawn) == pytest.approx(longest + 3, abs=1)
    assert length_curves({}).size == (840, 292)


@pytest.mark.parametrize(("tokens", "end"), [(0, 4), (4, 4), (5, 8), (9, 20), (21, 40), (144, 200), (2048, 4000)])
def test_an_axis_ends_at_a_round_number(tokens: int, end: int) -> None:
    assert charts._round_above(tokens) == end


@pytest.mark.parametrize(("count", "size"), [(1, (500, 322)), (2, (988, 322)), (3, (988, 632))])
def test_a_confusion_shows_both_photos(count: int, size: tuple[int, int]) -> None:
    page = confusion_grid([Confusion("Ruby", "Ash", 3, 7, shown("#123456"), shown("#654321"))] * count)
    assert page.size == size
    left, right = places(page, "#123456"), places(page, "#654321")
    assert len(left) == len(right) == count * 204 * 204
    assert min(right)[0] - min(left)[0] == 216 + 44
    assert COLOURS["wrong"] in {"#" + bytes(colour).hex() for _, colour in page.getcolors(1 << 24) or []}  # pyright: ignore


def test_a_name_without_photos_and_any_text_can_be_drawn() -> None:
    for text in ("", "x" * 100_000, "<b>\x00\x1b[31m\u202e鳥\ud800", "a\nb\r\n" * 100):
        page = confusion_grid([Confusion(text, text, 10**9, 10**9, shown("#123456"), None)])
        assert page.size == (500, 322)
        assert not places(page.crop((272, 12, 488, 100)), "#123456")
