import time
import unicodedata

import pytest
from class_names import DATA_SETS, RIGHT_ANSWERS
from hypothesis import given, settings
from hypothesis import strategies as st

from fgvr.judges.base import Judgement
from fgvr.judges.screen import gives_several, screen
from fgvr.taxonomy.names import MAX_CHARACTERS, Names
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Verdict

BIRDS = Names(
    Taxonomy(
        {
            "Ruby Finch": ("Finches", "Ruby Finch"),
            "Ash Finch": ("Finches", "Ash Finch"),
            "Wren": ("Wrens", "Wren"),
            "Robin": ("Thrushes", "Robin"),
            "Black-and-white Owl": ("Owls", "Black-and-white Owl"),
            "Jay, Little": ("Jays", "Jay, Little"),
        },
        ("family", "species"),
        "bird",
        {"Ruby Finch": ("Rubra vulgaris",), "Finches": ("Fringillidae",), "Robin": ("redbreast",)},
    )
)
SPECIFIC, WRONG, ABSTAIN = Verdict.SPECIFIC, Verdict.WRONG, Verdict.ABSTAIN
NAMES = [(name, data_set) for name, names in DATA_SETS.items() for data_set in names]


def passes(answer: str, label: str = "Zebra Finch", known: Names | None = None) -> bool:
    return screen(label, answer, known) is None


@pytest.mark.parametrize("answer", ["Robin", " robin. ", "ROBIN", "the Robin", "Robin,", "ro’bin", "Ｒｏｂｉｎ"])
def test_the_label_itself_is_specific(answer: str) -> None:
    assert screen("Robin", answer) == Judgement(SPECIFIC, "Robin")
    assert screen("Robin", answer, BIRDS) == Judgement(SPECIFIC, "Robin")


def test_known_names_are_settled_where_they_are_the_label_and_left_to_the_judge_where_not() -> None:
    assert screen("Ruby Finch", "rubra vulgaris", BIRDS) == Judgement(SPECIFIC, "Ruby Finch")
    assert screen("Rubra vulgaris", "Ruby Finch", BIRDS) == Judgement(SPECIFIC, "Ruby Finch")
    assert screen("Ruby Finch", "Ruby Finch (Rubra vulgaris)", BIRDS) == Judgement(SPECIFIC, "Ruby Finch")
    assert screen("Ruby Finch", "Ruby Finch （Fringillidae）", BIRDS) == Judgement(SPECIFIC, "Ruby Finch")
    for answer in ("Ash Finch", "Finches", "bird", "Jay, Little", "Little Jay", "a black and white owl", "Robin bird"):
        assert passes(answer, "Ruby Finch", BIRDS), answer


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " \t\n",
        "none",
        "N/A",
        "I don’t know",
        "Unable to determine",
        "unknown species",
        "unknown bird species",
        "Unidentified bird species.",
        "unknown dog",
        "an unknown plant",
        "unknown aircraft",
        "Unknown car model",
        "unknown species of bird",
        "None (cannot tell)",
        "I cannot determine the species",
        "I can't identify this bird from the image.",
        "Unable to identify the species",
        "I am unable to determine the exact species from this photo",
        "cannot be identified from this photo",
        "The species cannot be determined.",
        "can't be determined",
        "not applicable",
        "null",
        "nothing",
        "?",
        "???",
        "-",
        "—",
        "insufficient information",
        "Not enough detail to identify the bird",
        "I'm not sure what bird this is",
        "I do not know the species",
        "Unknown. I cannot tell.",
        "not sure, unknown",
        "Difficult to say from this image",
    ],
)
def test_abstentions(answer: str) -> None:
    for known in (None, BIRDS):
        assert screen("Robin", answer, known) == Judgement(ABSTAIN)


def test_what_the_classes_are_can_be_unknown() -> None:
    known = Names(Taxonomy.flat(["Robin"], root="sea slug"))
    assert screen("Robin", "unknown sea slug", known) == Judgement(ABSTAIN)
    assert screen("Robin", "unknown sea slug species", known) == Judgement(ABSTAIN)
    assert passes("unknown sea slug", "Robin")
    assert passes("unknown finch", "Robin", BIRDS)


RIGHT = [(name, label, answer) for name, pairs in RIGHT_ANSWERS.items() for label, answer in pairs]
# What only the names of the other classes tell from a list.
NEED_KNOWN = {"Steak and fries", "Waffles and syrup", "Bacon & eggs benedict"}


@pytest.mark.parametrize(("data_set", "label", "answer"), RIGHT, ids=[answer for *_, answer in RIGHT])
def test_right_answers_are_never_refused(data_set: str, label: str, answer: str) -> None:
    known = Names(Taxonomy.flat(sorted({*DATA_SETS[data_set], label}), root="root"))
    for twin in (answer, f" {answer}. ", f"a {answer}"):
        assert screen(label, twin, known) in (None, Judgement(SPECIFIC, label))
        if answer not in NEED_KNOWN:
            assert screen(label, twin) in (None, Judgement(SPECIFIC, label))
            assert not gives_several(label, twin)


def test_a_class_called_like_a_refusal_can_be_named() -> None:
    for label in (
        "None",
        "NA",
        "no",
        "Solution",
        "Thought process:",
        "yes",
        "100%",
        "X or Y",
        "The Judge",
        "True Owls",
    ):
        assert screen(label, label.lower()) == Judgement(SPECIFIC, label)
        known = Names(Taxonomy.flat([label, "Robin"]))
        assert passes(label, "Robin", known)


@pytest.mark.parametrize(("data_set", "name"), NAMES, ids=[name for _, name in NAMES])
def test_names_of_the_fields_data_sets_pass(data_set: str, name: str) -> None:
    known = Names(Taxonomy.flat(DATA_SETS[data_set], root="root"))
    for form in (name, name.lower(), name.upper(), f" the {name}.", name.replace(" ", "  ")):
        assert screen(name, form, known) == screen(name, form) == Judgement(SPECIFIC, name)
        assert passes(form, "Zebra Finch", known)
    if "?" not in name:
        for form in (name, name.lower(), name.upper(), f"a {name}", f"male {name}", name.replace(" ", "_")):
            assert passes(form), form


@pytest.mark.parametrize(
    "answer",
    [
        "Black-and-white Warbler",
        "Black and white Warbler",
        "black & white warbler",
        "blue-and-yellow macaw",
        "sweet and sour pork",
        "Pheucticus ludovicianus",
        "Cattleya × hybrid",
        "Quercus × hispanica",
        "a yellow-rumped warbler",
        "Northern Cardinal (Cardinalis cardinalis)",
        "northern cardinal (Cardinalis cardinalis)",
        "Cardinalis cardinalis (Northern Cardinal)",
        "oak (Fagaceae)",
        "Golden eagle (Aquila chrysaetos)",
        "the peewit (Vanellus vanellus)",
        "Northern Cardinal (male)",
        "Northern Cardinal, female",
        "Ford F-150 (2012)",
        "C. cardinalis",
        "Passer domesticus",
        "Bison bison bison",
        "Rosa 'Peace'",
        "'Robin'",
        '"Robin"',
        "This is a robin",
        "It's a robin.",
        "a photo of a robin",
        "some kind of sparrow",
        "a small brown bird with a long tail",
        "Hawaiʻi ʻelepaio",
        "Pa\u0303o de queijo",  # the accent as a character of its own
        "知更鸟",
        "シジュウカラ",
        "Лазоревка",
        "القط الفارسي",
        "कौआ",
        "นกแก้ว",
        "Boeing 737 MAX 8",
        "U.S. Navy Hornet",
        "Mazda MX-5 2.0",
        "false killer whale",
        "right whale",
        "Hyundai Model Y",
        "Lincoln Mark VIII",
        "McDonnell Douglas DC-9",
    ],
)
def test_other_names_pass(answer: str) -> None:
    assert passes(answer)
    assert passes(answer, known=BIRDS)


SEVERAL = [
    "{} or {}",
    "{} OR {}",
    "{}/{}",
    "{} / {}",
    "{}, {}",
    "{},{}",
    "{}; {}",
    "{} | {}",
    "{} and {}",
    "{} & {}",
    "{} + {}",
    "{} - {}",
    "{} – {}",
    "{}—{}",
    "{} -- {}",
    "{} vs. {}",
    "either {} or {}",
    "{}, maybe {}",
    "{} maybe {}",
    "{} (or {})",
    "{} ({})",
    "{} aka {}",
    "{} a.k.a. {}",
    "{}, e.g. {}",
    "{} or possibly {}",
    "{}\n{}",
    "{}\t{}",
    "{}\r\n{}",
    "{}\u2028{}",
    "{}\u200b{}",
    "{}\u2060 {}",
    "1. {} 2. {}",
    "1) {} 2) {}",
    "(1) {} (2) {}",
    "1 {} 2 {}",
    "a) {} b) {}",
    "A. {} B. {}",
    "- {}\n- {}",
    "* {} * {}",
    "• {} • {}",
    "🐦 {} 🐦 {}",
    "✅{}❌{}",
    "{} → {}",
    "{} > {}",
    "{} = {}",
    "{}. {}.",
    "{}.{}",
    "{}... {}",
    "{} … {}",
    "{}? {}",
    "{}! {}",
    "{}，{}",
    "{}、{}",
    "{}；{}",
    "{}／{}",
    "{}｜{}",
    "{}⁄{}",
    "{}‚ {}",
    "{}،{}",
    "{} ǀ {}",
    "{} l {}",
    "{} ∣ {}",
    "{}・{}",
    '"{}" "{}"',
    "'{}' '{}'",
    "{} oder {}",
    "{} ou {}",
    "{} y {}",
    "{} o {}",
    "{} und {}",
    "{} или {}",
    "{} или {}".upper(),
    "both {} and {}",
    "{}, {}, and more",
]


# Lists only where both names are known, or (without known names) one of them alone is the label.
MAYBE_ONE = ("{}, {}", "{},{}", "{}，{}", "{} and {}", "{} & {}", "{} und {}", "{} ({})")


@pytest.mark.parametrize("form", SEVERAL)
@pytest.mark.parametrize("known", [None, BIRDS], ids=["unknown", "known"])
@pytest.mark.parametrize("pair", [("Robin", "Wren"), ("ruby finch", "Ash Finch"), ("Zebra Finch", "Rubra vulgaris")])
def test_several_names_are_wrong(form: str, known: Names | None, pair: tuple[str, str]) -> None:
    if form == "{} ({})" and pair[1] == "Rubra vulgaris":
        return  # a scientific name, which may well be that of the first
    nodes = [known.find(name) if known is not None else None for name in pair]
    for label in (pair[0], pair[1], "Emu"):
        told = all(node is not None or name == label for node, name in zip(nodes, pair, strict=True))
        if form not in MAYBE_ONE or told:
            assert screen(label, form.format(*pair), known) == Judgement(WRONG, several=True)


@pytest.mark.parametrize("form", ["{}, {}", "{},{}", "{} and {}", "{} & {}"])
def test_the_label_beside_another_name_is_a_list(form: str) -> None:
    for label in ("Robin", "Wren"):
        assert screen(label, form.format("Robin", "Wren")) == Judgement(WRONG, several=True)
    assert screen("Wren", form.format("the Wren", "Lesser Jay")) == Judgement(WRONG, several=True)
    assert screen("Emu", form.format("song sparrow", "house sparrow")) == Judgement(WRONG, several=True)
    assert passes(form.format("Robin", "Wren"), "Emu")


@pytest.mark.parametrize(
    "answer",
    [
        "Robin (or Wren)",
        "Robin (maybe Wren)",
        "Robin (possibly Wren)",
        "Robin (either that)",
        "Robin (vs Wren)",
        "Robin (and Wren)",
        "Robin (Wren, Jay)",
        "Robin (Wren/Jay)",
        "Robin (Wren; Jay)",
        "Robin (Wren) (Jay)",
        "Robin (this is the one you want)",
        "Robin ((Wren))",
        "(Robin) Wren",
        "Robin (Wren",
        "Robin, Wren and Jay",
        "Robin, Wren, Jay",
        "Robin and Wren and Jay",
        "Robin, maybe Wren",
        "Robin, or Wren",
        "Robin, possibly Wren",
        "Robin and",
    ],
)
@pytest.mark.parametrize("label", ["Robin", "Wren", "Emu"])
def test_hedges_are_refused_in_parentheses_or_not(answer: str, label: str) -> None:
    for known in (None, BIRDS):
        assert not passes(answer, label, known)


@pytest.mark.parametrize("answer", ["Robin (Wren)", "Robin (the Wren)", "a Robin (Wren)", "Robin, the Wren"])
def test_an_aside_that_names_another_class_is_a_list(answer: str) -> None:
    assert screen("Robin", answer, BIRDS) == Judgement(WRONG, several=True)


@pytest.mark.parametrize(
    "answer",
    [
        "Ruby Finch Ash Finch",
        "RubyFinchAshFinch",
        "rubyfinchwren",
        "ROBINWREN",
        "robin-wren",
        "robin wren",
        "Robin: Wren",
        "Finches (Wren)",
        "Robin x Wren",
    ],
)
def test_known_names_are_told_apart_without_any_mark(answer: str) -> None:
    assert screen("Robin", answer, BIRDS) == Judgement(WRONG, several=True)


@pytest.mark.parametrize("answer", ["Robin ノ Wren", "Robin\u034fWren", "Robin¸Wren", "Robin: Wren", "1️⃣ Robin 2️⃣ Wren"])
def test_odd_marks_between_names_are_refused(answer: str) -> None:
    judgement = screen("Robin", answer)
    assert judgement is not None
    assert judgement.verdict == WRONG


def test_a_year_too_many_is_a_second_name() -> None:
    assert screen("Audi A4 Sedan 2012", "Audi A4 Sedan 2011 2012") == Judgement(WRONG, several=True)
    assert passes("Audi A4 Sedan 2011-12", "Audi A4 Sedan 2012")
    assert passes("Saab 2000 built 1994", "Saab 2000 1994")


@pytest.mark.parametrize(
    ("label", "answer"),
    [
        ("Fish and chips", "fish & chips with peas"),
        ("Macaroni and cheese", "mac and cheese"),
        ("Macaroni and cheese", "baked macaroni and cheese"),
        ("Jay, Little", "a Jay, Little (male)"),
        ("F-16A/B", "General Dynamics F-16A/B"),
        ("A320/A321", "Airbus A320/A321"),
        ("Either Or", "Either Or sedan"),
        ("Robin <GB>", "European Robin <GB>"),
        ("Yes! Yogurt: Lemon", "Yes! Yogurt: Lemon flavour"),
        ("Audi 100 Sedan 1994", "100"),
        ("Tesla Model 3", "Model 3"),
        ("GTO The Judge", "Pontiac GTO Judge"),
        ("BMW 3系", "BMW 3系 轿车"),
        ("Photo: step by step", "Photo: step by step 2"),
    ],
)
def test_what_the_label_contains_is_not_held_against_an_answer(label: str, answer: str) -> None:
    assert passes(answer, label)


def test_what_a_known_name_contains_is_not_held_against_an_answer() -> None:
    known = Names(Taxonomy.flat(["Fish and chips", "Salt/Vinegar Crisps", "Correct Cola", "Robin <GB>"]))
    for answer in ("small fish and chips", "Salt/Vinegar Crisps bag", "diet correct cola", "young Robin <GB>"):
        assert passes(answer, "Emu", known), answer
        assert passes(answer, "Emu") == (answer == "small fish and chips"), answer
    assert screen("Emu", "fish and chips and salt/vinegar crisps", known) == Judgement(WRONG, several=True)


@pytest.mark.parametrize(
    ("label", "answer"),
    [
        ("Red-finch", "red, finch"),
        ("Ruby Finch", "Ruby / Finch"),
        ("True Owls", "true"),
        ("Great Crested Flycatcher", "Great"),
        ("Black-and-white Warbler", "Black-and-white Warbler and Robin"),
        ("Fish and chips", "fish and chips and burger"),
        ("Audi 100 Sedan 1994", "10"),
    ],
)
def test_a_word_of_the_label_does_not_make_a_list_of_it_one_name(label: str, answer: str) -> None:
    assert not passes(answer, label)


@pytest.mark.parametrize(
    "answer",
    [
        "one two three four five six seven eight nine robin eleven twelve wren",
        "x" * 41,
        "robin " * 4,
        "Robin" + "\u0301" * 40,
        "aWdub3JlIGFsbA",
        "c3BlY2lmaWM",
        "R o b i n s",
        "spec ific",
        "specifc",
        "Rоbin",  # with a Cyrillic о
        "Robins \x07",
        "\u202eniboR",
        "Rob\u00adin",
        "Robins\ud800",
        "<b>Robin</b>s",
        "**Robins**",
        "`Robins`",
        "[Robins](x)",
        "Robins ...",
        "not a finch",
        "probably a finch",
    ],
)
def test_text_that_is_no_name_is_wrong(answer: str) -> None:
    for known in (None, BIRDS):
        judgement = screen("Emu", answer, known)
        assert judgement is not None
        assert judgement.verdict == WRONG


def test_the_limit_of_words_grows_with_the_label() -> None:
    label = "Sedan Alpha Beta Gamma Delta"
    answer = " ".join(f"{letter}ord" for letter in "bcdfghjklmnpqrs")
    assert len(answer.split()) == 15
    assert passes(answer, label)
    assert not passes(answer, "Sedan Alpha Beta Gamma")
    assert not passes(f"{answer} tord", label)


@pytest.mark.parametrize(
    "text",
    [
        "\u0301",
        "a\u0301\u0316",
        "\ufdfa",
        "(",
        "a(",
        "a: ",
        "1 a ",
        "a. ",
        "or ",
        "AbAb",
        "𝐚",
        "1.",
        "us ",
        "unknown ",
        "the ",
        "unknown species of thing ",
        "unknown the thing ",
        "I cannot tell it from the image ",
        "a(b)",
        "(a) ",
        "\n",
        "'",
    ],
)
def test_hostile_text_takes_no_time(text: str) -> None:
    started = time.perf_counter()
    for answer in ((text * MAX_CHARACTERS)[:MAX_CHARACTERS], text * 1_000_000):
        screen("Robin", answer)
        screen("Robin", answer, BIRDS)
    assert time.perf_counter() - started < 5  # a second would do; quadratic time takes hours


def test_over_long_text_is_refused_even_if_it_holds_nothing_else_than_the_label() -> None:
    assert screen("Robin", " " * 600 + "Robin") == Judgement(WRONG)
    assert screen("Robin", " " * 500 + "Robin") == Judgement(SPECIFIC, "Robin")


@settings(deadline=None)
@given(st.text(max_size=600), st.text(max_size=40))
def test_any_text_is_read_without_an_error(answer: str, label: str) -> None:
    for known in (None, BIRDS):
        judgement = screen(label, answer, known)
        assert judgement is None or judgement.verdict in (WRONG, ABSTAIN, SPECIFIC)
        assert judgement == screen(label, answer, known)
    if len(answer) <= MAX_CHARACTERS:
        assert gives_several(label, answer) in (True, False)


@settings(deadline=None)
@given(st.sampled_from(NAMES), st.sampled_from(["NFC", "NFD"]), st.integers(1, 5))
def test_twins_in_accents_and_spaces_are_judged_alike(entry: tuple[str, str], form: str, spaces: int) -> None:
    _, name = entry
    twin = unicodedata.normalize(form, name).replace(" ", " " * spaces)  # pyright: ignore[reportArgumentType]
    for label in (name, "Crème brûlée", "Zebra Finch"):
        assert screen(label, twin) == screen(label, name)
