import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgvr.data.closed_world import ClosedWorld
from fgvr.data.tasks import OpenWorld, format_answer, parse_completion
from fgvr.errors import UserError
from fgvr.rewards import AnsweredGroup, Exact, Format, Reward, SoftLength, Substring
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Example

BIRDS = Taxonomy(
    {
        "Ruby Finch": ("Finches", "Roundbill", "Ruby Finch"),
        "Goldfinch": ("Finches", "Roundbill", "Goldfinch"),
        "Finch": ("Finches", "Plainbill", "Finch"),
        "Barred Wren": ("Wrens", "Cocktail", "Barred Wren"),
        "Owl, Little": ("Owls", "Hooter", "Owl, Little"),
        "Black-and-white Owl": ("Owls", "Hooter", "Black-and-white Owl"),
        "Hooter": ("Owls", "Hooter"),
    },
    ("family", "genus", "species"),
    "bird",
    {"Ruby Finch": ("Rubra vulgaris",), "Finches": ("small songbirds",)},
)
EXACT = Exact().bind(BIRDS)
LISTINGS = [
    "Ruby Finch or Goldfinch",
    "Goldfinch or Ruby Finch",
    "Ruby Finch, Goldfinch",
    "Ruby Finch/Goldfinch",
    "Ruby Finch\nGoldfinch",
    "Ruby Finch Goldfinch",
    "Ruby Finch; Ruby Finch",
    ", ".join(BIRDS.paths),
    " ".join(BIRDS.paths),
    "\n".join(BIRDS.paths),
    " or ".join(BIRDS.paths),
]


def example(label: str = "Ruby Finch", **extra: object) -> Example:
    return Example("aviary/7", (b"",), label, BIRDS.paths.get(label, (label,)), "train", "seen", "aviary", {**extra})


def replies(texts: Sequence[str], label: str = "Ruby Finch", cut: bool = False) -> AnsweredGroup:
    answers = [parse_completion(text) for text in texts]
    return AnsweredGroup(example(label), list(texts), answers, [len(text) for text in texts], [cut] * len(texts))


def worth(reward: Reward, answer: str, label: str = "Ruby Finch") -> float | None:
    return reward.score([replies([f"<answer>{answer}</answer>"], label)])[0][0]


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("Ruby Finch", "Ruby Finch"),
        ("a ruby-finch.", "Ruby Finch"),
        ("\n the RUBY  finch! \n", "Ruby Finch"),
        ("Ｒｕｂｙ Ｆｉｎｃｈ", "Ruby Finch"),  # full-width letters
        ("Rubra vulgaris", "Ruby Finch"),
        ("Finch", "Finch"),
        ("Owl, Little", "Owl, Little"),
        ("black and white owl", "Black-and-white Owl"),
        ("Black & White Owls", "Black-and-white Owl"),
        ("It's a Ruby Finch.", "Ruby Finch"),
        ("a Ruby Finch bird", "Ruby Finch"),
        ("Ruby Finch (Rubra vulgaris)", "Ruby Finch"),
        ("Hooter", "Hooter"),
    ],
)
def test_exact_rewards_the_label_however_it_is_written(answer: str, label: str):
    assert worth(EXACT, answer, label) == 1.0


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("Goldfinch", "Finch"),  # the label within a longer word
        ("Ruby Finch", "Finch"),  # the label as one word of another class
        ("Finch", "Ruby Finch"),
        ("Ruby Fintch", "Ruby Finch"),
        ("Ruby Finch (probably)", "Ruby Finch"),
        ("not a Ruby Finch", "Ruby Finch"),
        ("It is not a Ruby Finch", "Ruby Finch"),
        ("Ruby Finch (Passer domesticus)", "Ruby Finch"),  # which it is not
        ("Roundbill", "Ruby Finch"),  # the genus
        ("small songbirds", "Ruby Finch"),  # the family, by synonym
        ("bird", "Ruby Finch"),  # the root
        ("Black-and-white Owl", "Hooter"),  # below the label
        ("Barred Wren", "Ruby Finch"),
        ("Ruby, Finch", "Ruby Finch"),
        ("Ruby\nFinch", "Ruby Finch"),
        ("Rubу Finch", "Ruby Finch"),  # a Cyrillic letter
        ("Ru\u200bby Finch", "Ruby Finch"),
        ("I don't know", "Ruby Finch"),
        (":", "Ruby Finch"),
        *((listing, "Ruby Finch") for listing in LISTINGS),
    ],
)
def test_exact_rewards_nothing_else(answer: str, label: str):
    assert worth(EXACT, answer, label) == 0.0


def test_a_reply_that_does_not_parse_earns_nothing():
    texts = ["Ruby Finch", "<answer>Ruby Finch", "<answer>Ruby Finch</answer> it is", "<answer> </answer>", ""]
    assert EXACT.score([replies(texts)]) == [[0.0] * 5]
    assert Format().score([replies(texts)]) == [[0.0] * 5]


def test_a_hundred_kilobytes_are_scored_in_a_moment():
    block = "<answer>{}</answer>".format
    texts = [
        block("Ruby Finch " * 9_000),
        block("Ruby Finch, " * 8_000),
        block(" " * 100_000 + "Emu"),
        block("the " * 25_000),
        "<answer>" * 12_000,
        "<" * 100_000,
    ]
    begin = time.monotonic()
    assert EXACT.score([replies(texts)]) == [[0.0] * 6]
    assert Substring().score([replies(texts)]) == [[1.0, 1.0, 0.0, 0.0, 0.0, 0.0]]
    assert time.monotonic() - begin < 5


def test_exact_reads_what_the_task_made_of_a_letter():
    task = ClosedWorld(options=3, letters=True).bind(BIRDS)
    shown = example(shown=["Barred Wren", "Ruby Finch", "Goldfinch"])
    texts = [format_answer(letter) for letter in ("A", "B", "(b)", "A, B", "B or C", "D")]
    answers = [task.parse(text, shown) for text in texts]
    group = AnsweredGroup(shown, texts, answers, [1] * 6, [False] * 6)
    assert EXACT.score([group]) == [[0.0, 1.0, 1.0, 0.0, 0.0, 0.0]]


def test_exact_must_know_the_classes():
    with pytest.raises(ValueError, match=r"call bind\(taxonomy\)"):
        worth(Exact(), "Ruby Finch")
    with pytest.raises(UserError, match="a name of the taxonomy, but aviary/7 has 'Emu'"):
        worth(EXACT, "Emu", label="Emu")


def test_binding_leaves_the_reward_as_it_was():
    unbound = Exact()
    assert unbound.bind(BIRDS) is not unbound
    with pytest.raises(ValueError, match="call bind"):
        unbound.score([])


def test_format_is_earned_by_a_whole_reply():
    good = ["<answer>Emu</answer>", "<think>Round bill.</think>\n<answer>Ruby Finch</answer>"]
    assert Format().score([replies(good), replies(good, cut=True)]) == [[1.0, 1.0], [0.0, 0.0]]


def test_soft_length_by_hand():
    # limit 10, buffer 4: 0 up to 10 - 4 = 6; at 7 (6 - 7) / 4 = -0.25; at 9 (6 - 9) / 4 = -0.75; -1 from 10 on
    lengths = [1, 6, 7, 9, 10, 11, 10_000]
    group = AnsweredGroup(example(), [""] * 7, [None] * 7, lengths, [False] * 7)
    assert SoftLength(10, 4).score([group]) == [[0.0, 0.0, -0.25, -0.75, -1.0, -1.0, -1.0]]


@pytest.mark.parametrize(("limit", "buffer"), [(10, 0), (10, -1), (10, 11), (0, 0)])
def test_soft_length_refuses_a_buffer_that_does_not_fit(limit: int, buffer: int):
    with pytest.raises(UserError, match=f"between 1 and the limit of {limit} tokens, got {buffer}"):
        SoftLength(limit, buffer)


@pytest.mark.parametrize("listing", LISTINGS)
def test_listing_candidates_fools_substring_and_not_exact(listing: str):
    assert (worth(Substring(), listing), worth(EXACT, listing)) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("<answer>a GOLDFINCH, I think</answer>", 1.0),  # the label is "Finch"
        ("thus < answer > finch < / answer > or so", 1.0),
        ("<answer>wren</answer><answer>finch</answer>", 0.0),  # only the first block counts
        ("<answer>wren\nor finch</answer>", 1.0),
        ("finch", 0.0),
        ("<answer>finch", 0.0),
        ("</answer><answer>finch", 0.0),
        ("", 0.0),
    ],
)
def test_substring_reads_the_first_answer_block_of_the_text(text: str, score: float):
    assert Substring().score([replies([text], label="Finch")]) == [[score]]


def test_substring_refuses_a_blank_label():
    with pytest.raises(UserError, match="that of aviary/7 is blank"):
        worth(Substring(), "Emu", label=" ")


WORDS = st.sampled_from([*BIRDS.lineage, *LISTINGS, "Rubra vulgaris", "emu", "", "<", "</answer>"])
REPLIES = st.lists(
    st.tuples(st.one_of(WORDS, st.text(max_size=20)), st.integers(0, 40), st.booleans()), min_size=1, max_size=6
)


@given(REPLIES, st.randoms(use_true_random=False), st.sampled_from(sorted(BIRDS.paths)))
def test_scores_follow_their_completions_and_stay_in_range(drawn, rng, label):
    def group(rows: Sequence[tuple[str, int, bool]]) -> AnsweredGroup:
        texts = [f"<answer>{text}</answer>" for text, _, _ in rows]
        answers = [OpenWorld().parse(text) for text in texts]
        return AnsweredGroup(example(label), texts, answers, [n for _, n, _ in rows], [cut for _, _, cut in rows])

    order = rng.sample(range(len(drawn)), len(drawn))
    rewards: list[tuple[Reward, float, float]] = [
        (EXACT, 0, 1),
        (Format(), 0, 1),
        (Substring(), 0, 1),
        (SoftLength(20, 5), -1, 0),
    ]
    for reward, low, high in rewards:
        scores = reward.score([group(drawn)])[0]
        assert all(score is not None and low <= score <= high for score in scores)
        assert reward.score([group([drawn[i] for i in order])])[0] == [scores[i] for i in order]
