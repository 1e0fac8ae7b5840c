import json
from pathlib import Path

import pytest

from fgvr.errors import UserError
from fgvr.taxonomy.reading import read_taxonomy
from fgvr.taxonomy.tree import Taxonomy


def read(folder: Path, text: str) -> Taxonomy:
    (folder / "t.yaml").write_text(text, encoding="utf-8")
    return read_taxonomy(folder / "t.yaml")


def test_a_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    text = """
    root: bird
    ranks: [family, species]
    paths:
      Ruby Finch: [Finches, Ruby Finch]
      Emu: [Emu]
    synonyms: {Ruby Finch: [Rubra vulgaris]}
    """
    birds = Taxonomy(
        {"Ruby Finch": ("Finches", "Ruby Finch"), "Emu": ("Emu",)},
        ("family", "species"),
        "bird",
        {"Ruby Finch": ("Rubra vulgaris",)},
    )
    assert read(tmp_path, text) == birds
    assert read(tmp_path, json.dumps(birds.to_dict())) == birds
    assert read(tmp_path, "ranks:\nsynonyms: ~\npaths: {A: [A]}") == Taxonomy({"A": ("A",)})


def test_names_stay_as_they_are_written(tmp_path: Path) -> None:
    """By yaml's own rules these are false, 3.1, 7, a date, 750, an infinity and 1000."""
    names = ["No", "3.10", "007", "2012-01-01", "12:30", ".inf", "1_000"]
    assert [*read(tmp_path, "paths:\n" + "".join(f"  {name}: [{name}]\n" for name in names)).paths] == names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has the keys root, ranks, paths and synonyms, got None"),
        ("[1]", "has the keys"),
        ("A", "has the keys"),
        ("path: {A: [A]}", r"has the keys .* got \['path'\]"),
        ("paths: {A: [A]}\nmore: 1", "has the keys"),
        ("root: bird", "has the keys"),
        ("paths:", "paths must give each name a list"),
        ("paths: 3", "paths must give each name a list"),
        ("paths: [A]", "paths must give each name a list"),
        ("paths: {}", "paths must hold a class or more"),
        ("paths: {A: B}", r"paths of 'A' must be a list of names, such as \[coarse, ..., class\], got 'B'"),
        ("paths: {A: 3}", "paths of 'A' must be a list"),
        ("paths: {A: }", "paths of 'A' must be a list"),
        ("paths: {A: {B: C}}", "paths of 'A' must be a list"),
        ("paths: {A: [[A]]}", r"paths of 'A' must hold names that are text, got \['A'\]"),
        ("paths: {A: [{B: C}, A]}", "paths of 'A' must hold names"),
        ("paths: {A: ['', A]}", "paths of 'A' must hold names that are text, got ''"),
        ("paths: {'': ['']}", "paths must hold names"),
        ("paths: {A: [B]}", "must end in its label"),
        ("paths: {A: []}", "must end in its label"),
        ("paths: {A: [A], A: [B, A]}", "'A' stands twice"),
        ("paths: {A: [A]}\nroot:", "root must name what all classes are, such as bird, but it is blank"),
        ("paths: {A: [A]}\nroot: ~", "root must name"),
        ("paths: {A: [A]}\nroot: None", "root must name"),
        ('{"paths": {"A": ["A"]}, "root": null}', "root must name"),
        ("paths: {A: [A]}\nroot: [bird]", "root must hold names that are text"),
        ("paths: {A: [A]}\nranks: species", "ranks must be a list of names"),
        ("paths: {A: [A]}\nranks: 3", "ranks must be a list of names"),
        ("paths: {A: [A]}\nranks: [a, a]", "every rank must have its own name"),
        ("paths: {A: [A]}\nsynonyms: {A: Rubra}", r"synonyms of 'A' must be a list .* got 'Rubra': put it in brackets"),
        ("paths: {A: [A]}\nsynonyms: [A]", "synonyms must give each name a list"),
        ("paths: {A: [A]}\nsynonyms: A", "synonyms must give each name a list"),
        ("a: [", "readable yaml or json"),
        ("{", "readable yaml or json"),
        ("? [a]\n: b", "readable yaml or json"),
        ("a: &a [*a]\npaths: *a", "readable yaml or json"),
        ("paths: \x00", "readable yaml or json"),
        ("[" * 5000, "readable yaml or json"),
    ],
)
def test_what_is_no_taxonomy_is_one_sentence_with_the_file_and_the_entry(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        read(tmp_path, text)
    assert "t.yaml" in str(caught.value)


def test_files_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_bytes(b"paths: {\xff: [a]}")
    for file in (tmp_path / "t.yaml", tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(UserError, match="readable yaml or json"):
            read_taxonomy(file)


def test_a_taxonomy_file_runs_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="paths must give each name a list"):
        read(tmp_path, f"paths: !!python/object/apply:os.system ['touch {tmp_path}/made']")
    assert not (tmp_path / "made").exists()
