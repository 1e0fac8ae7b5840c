import pytest
from wu_palmer import WuPalmer

from fgvr.rewards import AnsweredGroup
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Answer, Example

BIRDS = Taxonomy(
    {
        "Ruby Finch": ("Finches", "Roundbill", "Ruby Finch"),
        "Ash Finch": ("Finches", "Roundbill", "Ash Finch"),
        "Little Owl": ("Owls", "Hooter", "Little Owl"),
    }
)


def test_what_is_shared_is_paid_for():
    # 2 x 3 / (3 + 3), 2 x 2 / (2 + 3), 2 x 2 / (3 + 3), 0 / (3 + 3), no name, nothing
    said = ["Ruby Finch", "Roundbill", "Ash Finch", "Little Owl", "Ruby Owl", None]
    answers = [None if text is None else Answer(text) for text in said]
    example = Example("1", (b"",), "Ruby Finch", BIRDS.paths["Ruby Finch"], "train", "seen", "birds")
    group = AnsweredGroup(example, [""] * 6, answers, [3] * 6, [False] * 6)
    assert WuPalmer().bind(BIRDS).score([group]) == [[1, pytest.approx(4 / 5), pytest.approx(2 / 3), 0, 0, 0]]
