"""The Aviary as a source: determinism, splits, held-out combinations, settings."""

import hashlib
import io
import pickle
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fgvr.aviary.names import catalogue
from fgvr.aviary.source import STRIDE, Aviary
from fgvr.errors import UserError
from fgvr.sources import Record

BIRDS = {bird.name: bird for members in catalogue().values() for bird in members}


def records(aviary: Aviary) -> list[Record]:
    found = list(aviary.records())
    assert all(isinstance(record, Record) for record in found)
    return [record for record in found if isinstance(record, Record)]


def digest(aviary: Aviary, species: str, index: int) -> str:
    return hashlib.sha256(aviary.draw(species, index).tobytes()).hexdigest()


def test_the_same_seed_species_and_index_give_the_same_bytes_in_another_process() -> None:
    aviary = Aviary(species=48, unseen=8)
    here = [hashlib.sha256(aviary.encode(name, 3)).hexdigest() for name in aviary.species[::12]]
    program = (
        "import hashlib; from fgvr.aviary.source import Aviary; aviary = Aviary(species=48, unseen=8); "
        "print([hashlib.sha256(aviary.encode(name, 3)).hexdigest() for name in aviary.species[::12]])"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == str(here)


def test_a_picture_depends_on_seed_species_and_index_and_on_no_count() -> None:
    aviary = Aviary()
    name, other = aviary.species[0], aviary.species[1]
    drawn = digest(aviary, name, 0)
    assert drawn == digest(Aviary(species=60, unseen=3, train=1, val=2, test=0), name, 0)
    different = [digest(Aviary(seed=1), name, 0), digest(aviary, other, 0), digest(aviary, name, 1)]
    assert len({drawn, *different}) == 4


def test_records_are_sorted_load_as_jpeg_and_survive_a_pickle() -> None:
    found = records(Aviary(species=48, unseen=8, train=2, val=1, test=1))
    assert [record.name for record in found] == [record.name for record in sorted(found, key=lambda r: r.label)]
    assert len({record.name for record in found}) == len(found) == 40 * 4 + 8 * 2
    first = found[0]
    image = Image.open(io.BytesIO(first.load()))
    assert (image.format, image.size, image.mode) == ("JPEG", (84, 84), "RGB")
    assert pickle.loads(pickle.dumps(first)).load() == first.load()
    assert first.path[-1] == first.label
    assert first.extra == {"mark_colour": BIRDS[first.label].mark_colour, "mark_place": BIRDS[first.label].mark_place}


def test_splits_share_no_picture_and_unseen_species_are_never_trained_on() -> None:
    aviary = Aviary(species=48, unseen=8, train=3, val=2, test=2)
    found = records(aviary)
    assert Counter((record.split, record.cohort) for record in found) == {
        ("train", "seen"): 120,
        ("val", "seen"): 80,
        ("test", "seen"): 80,
        ("val", "unseen"): 16,
        ("test", "unseen"): 16,
    }
    one = aviary.species[0]
    pictures = [record.load() for record in found if record.label == one]
    assert len(set(pictures)) == len(pictures)
    assert {record.label for record in found if record.cohort == "unseen"} == aviary.unseen


def test_more_training_pictures_leave_val_and_test_as_they_are() -> None:
    def held(aviary: Aviary) -> dict[str, bytes]:
        wanted = aviary.species[7]
        return {r.name: r.load() for r in records(aviary) if r.split != "train" and r.label == wanted}

    few, many = held(Aviary(train=1, val=2, test=2)), held(Aviary(train=90, val=3, test=2))
    assert len(few) == 4
    assert few.items() <= many.items()


@pytest.mark.parametrize(("species", "unseen"), [(48, 8), (60, 12), (96, 16), (120, 40)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_unseen_species_are_new_combinations_of_what_seen_species_show(species: int, unseen: int, seed: int) -> None:
    aviary = Aviary(species=species, unseen=unseen, seed=seed)
    assert len(aviary.species) == species
    assert len(aviary.unseen) == unseen
    seen = [BIRDS[name] for name in aviary.species if name not in aviary.unseen]
    genera = Counter(bird.genus.name for bird in seen)
    assert min(genera.values()) >= 2
    marks = {(bird.mark_colour, bird.mark_place) for bird in seen}
    combinations = {(bird.genus.name, bird.mark_colour, bird.mark_place) for bird in seen}
    for bird in map(BIRDS.__getitem__, aviary.unseen):
        assert bird.genus.name in genera
        assert (bird.mark_colour, bird.mark_place) in marks
        assert (bird.genus.name, bird.mark_colour, bird.mark_place) not in combinations
    families = Counter(BIRDS[name].genus.family for name in aviary.unseen)
    assert len(families) == 8
    assert max(families.values()) - min(families.values()) <= 1


def test_the_seed_decides_which_species_are_unseen_and_nothing_else_does() -> None:
    assert Aviary(seed=0).unseen != Aviary(seed=1).unseen
    assert Aviary(seed=0).unseen == Aviary(seed=0, difficulty=0.9, train=5, size=112).unseen


@pytest.mark.parametrize("species", [48, 71, 72, 97, 120])
def test_every_genus_in_use_has_three_to_five_species(species: int) -> None:
    aviary = Aviary(species=species, unseen=0)
    taxonomy = aviary.taxonomy()
    counts = Counter(taxonomy.at_rank(name, "genus") for name in aviary.species)
    assert 3 <= min(counts.values()) <= max(counts.values()) <= min(counts.values()) + 1 <= 6
    assert len({taxonomy.at_rank(name, "family") for name in aviary.species}) == 8
    assert len({taxonomy.at_rank(name, "order") for name in aviary.species}) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"difficulty": 1.2}, "difficulty .* must be from 0 to 1, got 1.2"),
        ({"difficulty": float("nan")}, "difficulty .* must be from 0 to 1, got nan"),
        ({"difficulty": -0.1}, "difficulty .* must be from 0 to 1"),
        ({"species": 47}, "species .* must be from 48 to 120, got 47"),
        ({"species": 48, "unseen": 17}, "unseen .* must be from 0 to 16, got 17"),
        ({"size": 55}, "size .* must be from 56 to 512, got 55"),
        ({"val": -1}, "val .* must be from 0 to"),
        ({"train": STRIDE + 1}, "train .* must be from 0 to"),
    ],
)
def test_a_setting_out_of_range_is_refused_with_a_sentence(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Aviary(**settings)


def test_an_unknown_species_is_refused_with_the_nearest_name() -> None:
    aviary = Aviary()
    with pytest.raises(UserError, match=f"did you mean '{aviary.species[0]}'"):
        aviary.draw(aviary.species[0].lower(), 0)
    with pytest.raises(UserError, match="index must be at least 0, got -1"):
        aviary.draw(aviary.species[0], -1)


@pytest.mark.parametrize("difficulty", [0.0, 1.0])
def test_pictures_have_the_asked_size_and_look_alike_at_every_size(difficulty: float) -> None:
    name = Aviary().species[40]

    def small(size: int) -> np.ndarray:
        image = Aviary(size=size, difficulty=difficulty).draw(name, 1)
        assert image.size == (size, size)
        return np.asarray(image.resize((28, 28), Image.Resampling.BOX), dtype=np.float64)

    reference = small(84)
    for size in (56, 140, 300):
        assert np.abs(small(size) - reference).mean() < 4


def test_describe_tells_two_aviaries_apart() -> None:
    plain = Aviary().describe()
    assert plain == Aviary().describe()
    assert plain["species"] == 96
    assert all(plain != other.describe() for other in (Aviary(seed=1), Aviary(difficulty=0.4), Aviary(unseen=3)))


def test_the_contact_sheet_shows_one_species_of_each_genus_by_default() -> None:
    sheet = Aviary().contact_sheet(size=56)
    narrow = Aviary().contact_sheet(species=Aviary().species[:3], columns=3, size=56)
    assert sheet.width > 8 * 56
    assert sheet.height > 3 * 56
    assert narrow.width > 3 * 56
    assert narrow.height < 2 * 56


def test_novel_species_are_some_of_the_seen_with_the_same_pictures():
    before, after = Aviary(species=60, unseen=8, train=2, val=1), Aviary(species=60, unseen=8, train=2, val=1, novel=12)
    assert after.unseen == before.unseen
    assert len(after.novel) == 12
    assert not after.novel & after.unseen
    cohorts = {(r.cohort, r.split) for r in after.records() if isinstance(r, Record)}
    assert ("novel", "val") in cohorts
    assert ("novel", "train") not in cohorts
    assert before.encode(min(after.novel), 3) == after.encode(min(after.novel), 3)
    assert "novel" not in before.describe()
    with pytest.raises(UserError, match="novel"):
        Aviary(species=60, unseen=8, novel=60)
