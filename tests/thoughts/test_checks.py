"""Each way in which a teacher's reply cannot be learned from has its own words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgvr.data.sections import candidates_in, sections_of
from fgvr.data.tasks import format_answer, parse_completion
from fgvr.errors import SampleError, UserError
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy
from fgvr.thoughts.checks import Limits, checked, english_share, foreign_share
from fgvr.thoughts.teacher import Photo
from fgvr.types import Answer

TAXONOMY = Taxonomy(
    {"Great Tit": ("Tits", "Great Tit"), "Coal Tit": ("Tits", "Coal Tit"), "Rook": ("Crows", "Rook")},
    ("family", "species"),
)
PHOTO = Photo("u", "Great Tit", ("Coal Tit",), b"")
ANALYSIS = "A yellow breast with a black band down the middle, white cheeks on a black head."


def reply(
    analysis: str = ANALYSIS,
    options: str = "great tit; Coal Tit",
    comparison: str | None = "The coal tit lacks the band.",
    prediction: str = "Great tit",
) -> str:
    parts = {"analysis": analysis, "options": options, "comparison": comparison, "prediction": prediction}
    return "\n".join(f"<{tag}>{body}</{tag}>" for tag, body in parts.items() if body is not None)


def test_a_sound_reply_is_read_in_the_taxonomy_s_spelling() -> None:
    found = checked(reply(), PHOTO, Names(TAXONOMY), Limits())
    assert (found.candidates, found.prediction) == (("Great Tit", "Coal Tit"), "Great Tit")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (reply(prediction="Coal Tit"), "wrong prediction"),
        (reply(options="Coal Tit"), "label not among the candidates"),
        (reply(options="Great Tit; Rook"), "candidate of another parent"),
        (reply(options="Great Tit; Coal Tit; a; b; c"), "too many candidates"),
        (reply(analysis=f"{ANALYSIS} It is a great tit's pose."), "label in the analysis"),
        (reply(comparison="Die Tannenmeise хохлатая синица лазоревка не имеет полосы."), "mixed language"),
        (
            reply(
                "Une poitrine jaune, une bande noire au milieu, des joues blanches.",
                comparison="Elle a une bande noire.",
            ),
            "another language",
        ),
        (reply(comparison=None), "missing section: comparison"),
        (reply(analysis="  "), "missing section: analysis"),
        ("I'm sorry, I can't help with that.", "refused"),
        ("", "missing section: analysis"),
        (reply(analysis="<|im_end|>"), "control token"),
        (reply(analysis=f"{ANALYSIS} A great deal like all Great Tits."), "label in the analysis"),
        (reply(analysis=f"{ANALYSIS} Gr\u200beat T\u00adit."), "label in the analysis"),
        (reply(analysis="<think></think>"), "missing section: analysis"),
        (reply(analysis="\u200b ..."), "missing section: analysis"),
        (reply(comparison="A band. <thi<think>nk>"), "tag or heading within a section: comparison"),
        (reply(comparison="<ans<answer>wer>Rook</ans<answer>wer>"), "tag or heading within a section: comparison"),
        (reply(analysis=f"{ANALYSIS} <options>Rook</options>"), "tag or heading within a section: analysis"),
        (reply(comparison="No band.\nPrediction: Coal Tit"), "tag or heading within a section: comparison"),
        (reply(analysis=f"{ANALYSIS}\x1b[31m"), "unreadable characters"),
        (reply(analysis=f"{ANALYSIS} \ufffd"), "unreadable characters"),
        (reply(analysis="x", options="Great Tit", comparison="y"), "too short"),
        (reply(comparison="band " * 2000), "too long"),
        (reply(comparison="e" + "\u0301" * 400_000), "too long"),  # at once, though it would take minutes to compare
    ],
)
def test_a_reply_that_cannot_be_learned_from(text: str, words: str) -> None:
    with pytest.raises(SampleError, match=f"^{words}$"):
        checked(text, PHOTO, Names(TAXONOMY), Limits())


def test_a_class_without_siblings_may_be_held_against_any_other() -> None:
    alone = Photo("u", "Rook", (), b"")
    text = reply(
        options="Rook; Coal Tit", prediction="rook", comparison="A coal tit is far smaller and has white cheeks."
    )
    assert checked(text, alone, Names(TAXONOMY), Limits()).prediction == "Rook"


def test_the_share_of_common_words() -> None:
    assert english_share("The cap is red.") == pytest.approx(2 / 4)  # the, is
    assert english_share("Die Kappe ist rot.") == 0
    assert english_share("...") == 1


def test_the_share_of_foreign_letters() -> None:
    assert foreign_share("abc дe") == pytest.approx(1 / 5)  # of five letters one is Cyrillic
    assert foreign_share("1 2 3") == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shortest": -1}, "recipe.limits.shortest must be at least 0, got -1"),
        ({"longest": 0, "shortest": 0}, "recipe.limits.longest must be at least 1"),
        ({"shortest": 7000}, "at least shortest, which is 7000, got 6000"),
        ({"foreign": float("nan")}, "recipe.limits.foreign is a share and must be between 0 and 1, got nan"),
        ({"english": 2}, "recipe.limits.english is a share and must be between 0 and 1, got 2"),
    ],
)
def test_limits_that_nothing_could_keep_to(settings: dict[str, float], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Limits(**settings)  # pyright: ignore[reportArgumentType]


PIECES = [*"ab \n\r:<>/;,.1)", "<think>", "</answer>", "Prediction: ", "Great"]
PARTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@given(PARTS, PARTS, PARTS)
def test_what_is_accepted_is_read_back_as_it_was_written(analysis: str, options: str, comparison: str) -> None:
    text = reply(analysis, f"{options};Great Tit", comparison)
    try:
        found = checked(text, PHOTO, Names(TAXONOMY), Limits(shortest=0, english=0))
    except SampleError:
        return
    answer = parse_completion(format_answer("Great Tit", found.thought()))
    assert answer == Answer("Great Tit", found.thought())
    parts = sections_of(found.thought())
    assert [*parts.values()] == [found.analysis, "; ".join(found.candidates), found.comparison, "Great Tit"]
    assert candidates_in(parts["Candidates"] + ";") == found.candidates
