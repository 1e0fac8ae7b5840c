import logging
from pathlib import Path

import pytest
from toy_triplets import EVEN, FAMILY, examples_of, packed, triplet_data

from fgvr.errors import UserError
from fgvr.similarity import FolderCentroids, OnlineConfusion, TowerCentroids


def test_a_class_of_one_photo_and_one_alone_in_its_family_do_without(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    counts = {"Amber Finch": 6, "Azure Finch": 1, "Jade Owl": 3}
    shards = packed(tmp_path / "birds", counts)
    with caplog.at_level(logging.WARNING, "fgvr"):
        examples = examples_of(triplet_data(shards, max_incomplete_share=0.3))
    assert (
        "1 of 10 pictures to train on have no positive, those of 'Azure Finch' (1): they are trained on without"
        in caplog.text
    )
    assert "3 of 10 pictures to train on have no negative, those of 'Jade Owl' (3): they are trained on" in caplog.text
    assert [one.label for one in examples if one.positive is None] == ["Azure Finch"]
    assert [one.label for one in examples if one.negative is None] == ["Jade Owl"] * 3
    with pytest.raises(UserError, match=r"at most a share of 0.2 may lack a partner, but 3 of 10 .* no negative"):
        triplet_data(shards, max_incomplete_share=0.2)


def test_a_set_without_any_positive_or_negative_is_refused(tmp_path: Path):
    single = packed(tmp_path / "single", dict.fromkeys(FAMILY, 1))
    with pytest.raises(UserError, match="triplets need a positive, but none of 6 pictures to train on has one"):
        triplet_data(single, max_incomplete_share=1.0)
    strangers = packed(tmp_path / "strangers", {"Amber Finch": 2, "Jade Owl": 2})
    with pytest.raises(UserError, match=r"need a negative, but none of 4 .*: set data.init_args.similarity"):
        triplet_data(strangers, max_incomplete_share=1.0)


def test_the_advice_is_about_the_partner_that_is_lacking(tmp_path: Path):
    shards = packed(tmp_path / "birds", dict.fromkeys(EVEN, 1))
    with pytest.raises(UserError, match=r"need a positive, .*: train on more than one photo of a class") as refusal:
        triplet_data(shards)
    assert "similarity" not in str(refusal.value)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_measure_whose_model_is_not_there_is_missed_before_training(tmp_path: Path, wrapped: bool):
    shards, away = packed(tmp_path / "birds"), tmp_path / "away"
    for measure, said in (
        (FolderCentroids(away), "must be a folder with a CLIP or SigLIP, but there is no folder"),
        (TowerCentroids(run=str(away)), "away"),
    ):
        with pytest.raises(UserError, match=said):
            triplet_data(shards, similarity=OnlineConfusion(measure) if wrapped else measure)
