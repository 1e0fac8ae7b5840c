"""Each way in which a teacher's reply cannot be learned from has its own words."""

from __future__ import annotations

import pytest

from fgvr.errors import SampleError
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy
from fgvr.thoughts.checks import Limits, checked, english_share, foreign_share
from fgvr.thoughts.teacher import Photo

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
        (reply(analysis="x", options="Great Tit", comparison="y"), "too short"),
        (reply(comparison="band " * 2000), "too long"),
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
