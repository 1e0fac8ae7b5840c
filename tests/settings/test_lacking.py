from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from fgvr.settings.lacking import form_of, of_words


def tool(runs: list[Path], out: Path, *, model: Path, rollouts: int = 3, **ways: int) -> str:
    return f"{runs}{out}{model}{rollouts}{ways}"


FORM = form_of("fgvr tool", tool, ("runs...", "model"))


def test_the_form_has_what_must_be_given_alone():
    assert FORM == "fgvr tool RUN [RUN ...] --out OUT MODEL"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("the following arguments are required: runs, out", f"runs and out must be given: {FORM}."),
        ("the following arguments are required: runs, out, model", f"runs, out and model must be given: {FORM}."),
        ("the following arguments are required: model", f"model must be given: {FORM}."),
        ("the following arguments are required: out", None),  # told by its own name
        ("argument --out: expected one argument", "--out needs a value: --out VALUE."),
        ("argument -c/--config: expected one argument", "--config needs a value: --config VALUE."),
        ("unrecognized arguments: a b.yaml", "a stands for no setting: give it as --out a."),
        ("unrecognized arguments: my.yaml", "my.yaml stands for no setting: give it as --config my.yaml."),
        ("something else", None),
    ],
)
def test_words_are_told_of_in_a_sentence(text: str, sentence: str | None):
    assert of_words(ArgumentParser(exit_on_error=False), FORM, [], text) == sentence


def test_what_a_stray_word_may_have_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run where a config is taken; where nothing lacks, how the command is typed."""
    parser = ArgumentParser(exit_on_error=False)
    monkeypatch.chdir(tmp_path)
    Path("my run").mkdir()
    Path("my run", "config.yaml").write_text("")
    said = of_words(parser, "", [], "unrecognized arguments: a")
    assert said == "a stands for no setting: give it with the setting that it is of, as --SETTING a, or leave it out."
    Path("a").mkdir()
    Path("a", "config.yaml").write_text("")
    said = of_words(parser, "", [], "unrecognized arguments: a")
    assert said == "a stands for no setting: give it a run's config as --config a/config.yaml."
    said = of_words(parser, "", ["my run", "b"], "unrecognized arguments: my run b")
    assert said == "my run stands for no setting: give it a run's config as --config 'my run/config.yaml'."
    said = of_words(parser, FORM, ["--out", "x"], "unrecognized arguments: a")
    assert said is not None
    assert said.endswith(f"or leave it out ({FORM}).")


def test_a_name_that_is_no_utf8_is_shown_by_its_bytes():
    line, text = ["--out", "a\udcff.png"], "out: 'utf-8' codec can't encode character '\\udcff': surrogates not allowed"
    said = of_words(ArgumentParser(exit_on_error=False), FORM, line, text)
    assert said == "a\\xff.png must be written in UTF-8, but it is not: rename what it names."
