"""Options of choice: the truth in each to train on and forced in none at test; who is left out, and why."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_birds import PATHS, classes
from toy_replies import COHORTS, made, sampled, stored

from fgvr.errors import UserError
from fgvr.options.deriving import Choice, Derived, Rules, derive, read_options, write_options
from fgvr.options.sources import Alike, Confused, Mined, Mixture, OptionSource, RandomNames
from fgvr.options.store import Sampled
from fgvr.options.votes import canonical, rank

ROOT = Path(__file__).parents[2]
SPELT = (*PATHS, "rubra", "the plain wren", "Roundbill", "gull", "A", "B-2", "???", None)
SOURCES = (Mined(), RandomNames(), Alike(), Confused(), Mixture([Mined(), Alike()]))
photos_of = st.lists(
    st.tuples(
        st.sampled_from([name for name in PATHS if name != "Tall Finch"]), st.lists(st.sampled_from(SPELT), max_size=6)
    ),
    min_size=1,
    max_size=5,
).map(lambda rows: [sampled(f"u{n}", label, *answers) for n, (label, answers) in enumerate(rows)])
rules_of = st.builds(Rules, st.integers(2, 5), st.sampled_from(["base", "all", "open", None]), st.booleans())


def derived(*photos: Sampled, split: str = "train", source: OptionSource = SOURCES[0], **rules: object) -> Derived:
    return derive(made(len(photos), split=split), photos, Rules(**rules), classes(), source)  # pyright: ignore[reportArgumentType]


def only(*photos: Sampled, **options: object) -> Choice:
    (choice,) = derived(*photos, **options).choices  # pyright: ignore[reportArgumentType]
    return choice


def test_the_truth_takes_the_place_of_the_lowest_ranked():
    photo = sampled("u", "Red Finch", *["Plain Wren"] * 3, *["Ash Finch"] * 2, "Barred Wren", "Blue Finch")
    choice = only(photo, m=3)
    assert choice.options == ("Plain Wren", "Ash Finch", "Red Finch")
    assert choice.origins == ("offered", "offered", "truth")
    assert choice.votes == (3, 2, 0)


def test_a_truth_that_is_ranked_too_low_is_put_in_its_place():
    photo = sampled("u", "Red Finch", *["Plain Wren"] * 3, *["Ash Finch"] * 2, "Red Finch")
    choice = only(photo, m=2)
    assert (choice.options, choice.votes) == (("Plain Wren", "Red Finch"), (3, 1))
    assert choice.origins == ("offered", "truth")


def test_a_held_out_name_is_no_option_to_train_on_in_any_scope():
    photo = sampled("u", "Red Finch", *["Tall Finch"] * 3, "Plain Wren")
    for scope in ("base", "all", "open"):
        assert only(photo, scope=scope).options == ("Plain Wren", "Red Finch")
    assert only(photo, split="val").options == ("Tall Finch", "Plain Wren")
    assert only(photo, split="val", scope="base").options[0] == "Plain Wren"


@pytest.mark.parametrize("scope", ["base", "all", "open"])
def test_within_a_branch_all_options_stand_in_it(scope: str):
    photo = sampled("u", "Red Finch", "Plain Wren", "Plain Wren", "gull", "Ash Finch")
    assert only(photo, m=4, scope=scope, within="finches").options == ("Ash Finch", "Red Finch")
    assert "Plain Wren" in only(photo, m=4, scope=scope).options
    alone = only(sampled("u", "Red Finch", "Red Finch"), keep_easy=True, scope=scope, within="finches")
    assert alone.origins == ("offered", "padded")
    assert alone.options[1] in ("Blue Finch", "Ash Finch")
    with pytest.raises(UserError, match="'gulls' is none"):
        only(photo, within="gulls")


def test_what_holds_of_the_label_too_is_no_option_beside_it():
    choice = only(sampled("u", "Red Finch", "Roundbill", "Finches", "gull", "Blue Finch"), scope="open")
    assert choice.options == ("gull", "Blue Finch", "Red Finch")


def test_nothing_of_the_label_is_looked_at_in_a_test():
    photos = [sampled("u", label, "Blue Finch", "Plain Wren", "Blue Finch") for label in ("Red Finch", "Plain Wren")]
    one, other = (only(photo, split="test") for photo in photos)
    assert one == other == Choice("u", "", ("Blue Finch", "Plain Wren"), (2, 1), ("offered", "offered"))
    for source in (Alike(), Confused(), Mixture([Mined(), Alike()])):
        with pytest.raises(UserError, match="must not be found by their labels"):
            derived(*photos, split="test", source=source)
        with pytest.raises(UserError, match="as the padding"):
            derive(made(2, split="test"), photos, Rules(), classes(), padding=source)


def test_photos_without_options_are_counted_by_reason():
    found = derived(
        sampled("easy", "Red Finch", "Red Finch", "rubra"),
        sampled("broken", "Red Finch", None, None),
        sampled("elsewhere", "Red Finch", "gull", None),
        sampled("gone", "Red Finch", refused="no bytes"),
        sampled("novel", "Tall Finch", "Red Finch"),
        replace(sampled("alias", "Red Finch", "Plain Wren"), label="rubra"),
        sampled("kept", "Red Finch", "Red Finch", None),
    )
    assert [choice.uid for choice in found.choices] == ["kept"]
    assert found.choices[0].origins == ("offered", "padded")
    assert {reason: count for reason, count in found.dropped.items() if count} == dict.fromkeys(
        ("refused", "no reply parsed", "no name in scope", "label of another class", "label held out", "easy"), 1
    )
    said = " ".join(found.sentences())
    assert "1 of 7 photos have options" in said
    assert "left out because every reply names the label: 1" in said
    assert "with a name that was added so that there are two: 1" in said


def test_easy_photos_stay_where_they_are_wanted_and_at_test():
    easy = sampled("easy", "Red Finch", "Red Finch", "rubra")
    assert only(easy, keep_easy=True).origins == ("offered", "padded")
    assert only(easy, split="test").options[0] == "Red Finch"


def test_a_lone_class_has_no_choice():
    photo = sampled("u", "Red Finch", "Red Finch", None)
    found = derive(made(1), [photo], Rules(), classes(names=("Red Finch",)))
    assert found.choices == ()
    assert found.dropped["one option"] == 1


def test_letters_and_brackets_as_names_are_names():
    choice = only(sampled("u", "Red Finch", "A", "B-2", "<b>"), scope="open", m=4)
    assert choice.options == ("a", "b 2", "b", "Red Finch")


def test_more_options_than_letters_are_refused():
    with pytest.raises(UserError, match="m must be from 2 to 26"):
        Rules(27)


@given(photos_of, rules_of, st.sampled_from(SOURCES))
def test_options_to_train_on_keep_every_promise(photos: list[Sampled], rules: Rules, source: OptionSource):
    of = made(len(photos))
    found = derive(of, photos, rules, classes(), source)
    assert len(found.choices) + sum(found.dropped.values()) == len(photos)
    for choice in found.choices:
        assert choice.options.count(choice.label) == 1
        assert len({canonical(name, of.names) for name in choice.options}) == len(choice.options)
        assert 2 <= len(choice.options) <= rules.m
        assert "Tall Finch" not in choice.options
        assert rules.scope == "open" or {*choice.options} <= {*COHORTS}
        assert len(choice.options) == len(choice.votes) == len(choice.origins)
        assert choice.origins.count("truth") <= 1


@given(photos_of, rules_of)
def test_options_at_test_are_the_first_names_alone(photos: list[Sampled], rules: Rules):
    of = made(len(photos), split="test")
    for choice in derive(of, photos, rules, classes()).choices:
        assert choice.label == ""
        assert "truth" not in choice.origins
        replies = next(photo for photo in photos if photo.uid == choice.uid).replies
        ranked = [one.name for one in rank(replies, of.names, rules.names(of))]
        offered = [name for name, origin in zip(choice.options, choice.origins, strict=True) if origin == "offered"]
        assert offered == ranked[: rules.m]
        assert list(choice.votes) == sorted(choice.votes, reverse=True)


def test_the_same_input_gives_the_same_bytes_whatever_the_hash_seed(tmp_path: Path):
    script = (
        "import sys; from pathlib import Path; from test_deriving import *\n"
        "photos = [sampled(f'u{n}', label, *SPELT[n:]) for n, label in enumerate(PATHS) if label != 'Tall Finch']\n"
        "of, rules = made(len(photos)), Rules(4, 'open')\n"
        "for n, source in enumerate(SOURCES):\n"
        "    write_options(Path(sys.argv[1]) / f'{n}.jsonl', of, rules, derive(of, photos, rules, classes(), source))\n"
    )
    written: list[list[bytes]] = []
    for seed in ("0", "1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests/options")))
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths}
        subprocess.run([sys.executable, "-c", script, str(folder)], check=True, env=environment)
        written.append([file.read_bytes() for file in sorted(folder.iterdir())])
    assert written[0] == written[1] == written[2]
    assert len(written[0]) == len(SOURCES)


def test_a_file_of_options_is_read_back_or_refused(tmp_path: Path):
    photos = [sampled("u", "Red Finch", "Plain Wren"), sampled("v", "Plain Wren", "Red Finch", "Barred Wren")]
    of, rules = made(2), Rules(3)
    found = derive(of, photos, rules, classes())
    path = tmp_path / "options.jsonl"
    write_options(path, of, rules, found)
    head, choices = read_options(path)
    assert tuple(choices.values()) == found.choices
    assert [head[name] for name in ("dataset", "data", "model", "prompt", "split")] == ["birds", "d", "m", "p", "train"]
    assert head["rules"]["m"] == 3
    stored(replies := tmp_path / "replies.jsonl", photos)
    with pytest.raises(UserError, match=r"it holds replies: the options made of them are in an options\.jsonl"):
        read_options(replies)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="must be options as"):
        read_options(path)
