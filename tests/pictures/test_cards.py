import io
import math
from dataclasses import replace

import pytest
from PIL import Image
from toy_rollouts import scored_group

from fgvr.judges.base import Judged, Judgement
from fgvr.pictures.cards import answer_grid, group_card
from fgvr.pictures.drawing import CARD, COLOURS, FAINT
from fgvr.types import Answer, Example, Partner, Verdict


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


def test_an_answer_without_a_verdict_is_not_shown_as_one_that_did_not_parse() -> None:
    shown = entry(Verdict.WRONG)
    lost = Judged(shown.example, shown.completion, shown.answer, None, "time-out")
    assert COLOURS["unjudged"] in colours(answer_grid([lost]))
    assert not (set(COLOURS.values()) - {COLOURS["unjudged"]}) & colours(answer_grid([lost]))


@pytest.mark.parametrize(("count", "size"), [(1, (240, 322)), (3, (696, 322)), (5, (924, 632))])
def test_grid_fits_its_cards(count: int, size: tuple[int, int]) -> None:
    assert answer_grid([entry(Verdict.WRONG)] * count).size == size


def test_any_text_can_be_drawn() -> None:
    said = ["", "x" * 100_000, "<b>\x00\x1b[31m\u202e鳥\ud800", "a\nb\r\n" * 100]
    assert answer_grid([entry(verdict, text) for text in said for verdict in (Verdict.WRONG, None)]).width == 924


def test_a_groups_card_goes_from_green_to_red_and_marks_what_is_wanting() -> None:
    red, green, purple, amber = (COLOURS[name] for name in ("wrong", "specific", "parse_failures", "generic"))
    good, bad = "<answer>Wren</answer>", "<answer>Owl</answer>"
    assert {"#123456", red, green} <= colours(group_card(scored_group([good, bad], [1.0, 0.0])))
    assert not {red, purple, amber} & colours(group_card(scored_group([good, good], [1.0, 1.0])))
    assert {purple, amber} <= colours(group_card(scored_group([good, "well, I"], [1.0, 0.9], cut=[1])))
    assert not {red, green, purple, amber} & colours(group_card(scored_group([good, bad], [math.nan] * 2)))


def test_a_groups_best_completion_stands_first() -> None:
    page = group_card(scored_group(["<answer>Owl</answer>", "<answer>Wren</answer>"] * 4, [0.0, 1.0] * 4))
    first = page.crop((240, 70, 420, 98)), page.crop((240, 266, 420, 294))
    assert [COLOURS["specific"] in colours(part) for part in first] == [True, False]
    assert [COLOURS["wrong"] in colours(part) for part in first] == [False, True]


@pytest.mark.parametrize("size", [2, 8, 32])
def test_a_groups_card_has_room_for_all_of_them(size: int) -> None:
    page = group_card(scored_group(["<answer>Wren</answer>"] * size, [-3.0, 40.0] * (size // 2)))
    assert page.height >= 28 * size
    assert colours(page.crop((250, page.height - 24, page.width - 24, page.height - 14))) == {CARD}


def test_any_group_can_be_drawn() -> None:
    said = ["", "x" * 100_000, "<b>\x00\x1b[31m\u202e鳥\ud800", "a\nb\r\n" * 100]
    group = scored_group(said, [math.nan, 1e9, -1e9, 0.0], uid="<i>\ud800", cut=[0, 1, 2, 3])
    assert group_card(group).width == 1046


def test_cards_show_what_the_model_was_given() -> None:
    def grey(photo: Image.Image) -> Image.Image:
        assert (photo.size, photo.getpixel((0, 0))) == ((40, 30), (0x12, 0x34, 0x56))
        return Image.new("RGB", (28, 56), "#777777")

    for card in (answer_grid([entry(Verdict.WRONG)], grey), group_card(scored_group(["Wren"], [1.0]), grey)):
        assert "#777777" in colours(card)
        assert "#123456" not in colours(card)


def test_a_triplets_card_shows_three_photos_and_marks_what_is_about_the_positive() -> None:
    data = {colour: io.BytesIO() for colour in ("#aa0011", "#00bb22")}
    for colour, file in data.items():
        Image.new("RGB", (30, 60), colour).save(file, "PNG")
    positive, negative = (Partner((file.getvalue(),), "x", "<b>\ud800" * 40) for file in data.values())
    group = scored_group(["<answer>Wren</answer>"] * 2, [1.0, 1.0])
    rollout = replace(group.rollout, example=replace(group.rollout.example, positive=positive, negative=negative))
    page = group_card(replace(group, rollout=replace(rollout, from_positive=1)))
    assert {"#123456", *data} <= colours(page)
    marked = [FAINT in colours(page.crop((500, top, 640, top + 28))) for top in (70, 98)]
    assert marked == [False, True]
    assert not set(data) & colours(group_card(group))
