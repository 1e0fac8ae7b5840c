"""A rank or a dataset called like a figure is refused by whatever reads it first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sourced import touch

from fgvr.__main__ import main
from fgvr.errors import UserError
from fgvr.taxonomy.reading import read_taxonomy
from fgvr.taxonomy.reserved import refuse_figure_as_dataset
from fgvr.taxonomy.tree import Taxonomy


@pytest.mark.parametrize("rank", ["exact", "generic", "macro_correctness", "kappa", "specificity_low", "less_specific"])
def test_a_rank_called_like_a_figure_makes_no_taxonomy(tmp_path: Path, rank: str):
    with pytest.raises(UserError, match=rf"must not be called like a figure, got \['{rank}'\]: rename it"):
        Taxonomy.flat(["a", "b"], rank=rank)
    (tmp_path / "taxonomy.yaml").write_text(f"ranks: [{rank}, file]\npaths: {{A: [B, A]}}\n")
    with pytest.raises(UserError, match=rf"taxonomy.yaml: a taxonomy's rank .* got \['{rank}'\]"):
        read_taxonomy(tmp_path / "taxonomy.yaml")


def test_shards_refuses_both_before_anything_is_packed(tmp_path: Path, capsys: Any):
    touch(tmp_path / "in", "x/a/1.jpg", "x/b/1.jpg", "y/c/1.jpg", "y/d/1.jpg")
    line = ["shards", "--source", "ImageFolder", "--out", str(tmp_path / "out"), "--source.root", str(tmp_path / "in")]
    assert main([*line, "--source.ranks", "[exact, file]"]) == 2
    assert "a taxonomy's rank must not be called like a figure, got ['exact']" in capsys.readouterr().err
    (tmp_path / "in").rename(tmp_path / "sampled")
    assert main([*line[:-1], str(tmp_path / "sampled")]) == 2
    assert "a dataset must not be called like a figure, got 'sampled': rename it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["best_of", "best_of/2", "sampled"])
def test_what_figures_begin_with_names_no_dataset(name: str):
    with pytest.raises(UserError, match="must not be called like a figure"):
        refuse_figure_as_dataset(name)
    refuse_figure_as_dataset(f"my_{name}")
