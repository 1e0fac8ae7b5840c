import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from conftest import tiny_policy
from PIL import Image
from toy_birds import PATHS, classes
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

from fgvr.errors import UserError
from fgvr.similarity import FolderCentroids, TowerCentroids
from fgvr.similarity.centroids import encoder_of

HUES = {"Red Finch": 250, "Blue Finch": 10, "Ash Finch": 240, "Tall Finch": 30, "Barred Wren": 130}  # one has no photo
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def shades(name: str, count: int) -> Sequence[Image.Image]:
    """Photos of one brightness a class, so that any encoder finds classes of near brightness alike."""
    return [
        Image.new("RGB", (56, 56), (HUES[name] + n, HUES[name], HUES[name]))
        for n in range(count if name in HUES else 0)
    ]


@pytest.fixture(params=["clip", "siglip"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A random encoder of a few thousand weights, in the hub's layout."""
    torch.manual_seed(0)
    vision, size = {**SMALL, "image_size": 28, "patch_size": 14}, {"height": 28, "width": 28}
    if request.param == "clip":
        config = CLIPConfig(text_config={**SMALL, "vocab_size": 9}, vision_config=vision, projection_dim=8)
        CLIPModel(config).save_pretrained(tmp_path)
        CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=size).save_pretrained(tmp_path)
    else:
        SiglipModel(SiglipConfig(text_config={**SMALL, "vocab_size": 9}, vision_config=vision)).save_pretrained(
            tmp_path
        )
        SiglipImageProcessorPil(size=size).save_pretrained(tmp_path)
    return tmp_path


def test_a_folder_finds_alike_what_looks_alike(folder: Path):
    measure = FolderCentroids(folder, photos=3)
    ranking = measure.nearest(classes(photos=shades), 2)
    assert ranking["Red Finch"][0][0] == "Ash Finch"
    assert ranking["Blue Finch"][0][0] == "Tall Finch"
    assert ranking["Plain Wren"] == ()
    assert all(-1 <= b <= a <= 1 for (_, a), (_, b) in (row for row in ranking.values() if row))
    assert ranking == FolderCentroids(folder, photos=3).nearest(classes(photos=shades), 2)
    assert measure.describe() != FolderCentroids(folder, photos=4).describe()


def test_a_folder_without_such_a_model_is_refused(folder: Path, tmp_path: Path):
    with pytest.raises(UserError, match="there is no folder"):
        FolderCentroids(tmp_path / "none").nearest(classes(photos=shades), 1)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match=r"must hold one of clip, siglip, siglip2, but .* holds 'bert'"):
        FolderCentroids(folder).nearest(classes(photos=shades), 1)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="must hold a whole CLIP or SigLIP"):
        FolderCentroids(folder).nearest(classes(photos=shades), 1)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_the_tower_gives_the_mean_image_token_whatever_the_batch(family: str):
    torch.manual_seed(0)
    policy = tiny_policy(family)
    photos = [*shades("Red Finch", 2), Image.effect_noise((84, 56), 80).convert("RGB")]
    encode = encoder_of(policy)
    together = encode(photos)
    for photo, row in zip(photos, together, strict=True):
        inputs, _ = policy.processor.encode_images([photo])
        own = policy.image_features(inputs).tokens.mean(0)
        torch.testing.assert_close(row, own, rtol=1e-5, atol=1e-6)
    assert policy.training


def test_the_tower_of_the_policy_ranks_the_classes():
    torch.manual_seed(0)
    policy = tiny_policy()
    measure = TowerCentroids(photos=2, every=3)
    ranking = measure.nearest(classes(photos=shades, policy=policy), 1)
    assert ranking["Red Finch"][0][0] == "Ash Finch"
    assert set(ranking) == set(PATHS)
    assert measure.every == 3
    with pytest.raises(UserError, match="none is here"):
        measure.nearest(classes(photos=shades), 1)
    with pytest.raises(UserError, match="photos must be at least 1"):
        TowerCentroids(photos=0)


def test_without_a_photo_nothing_is_alike():
    policy = tiny_policy()
    assert set(TowerCentroids().nearest(classes(policy=policy), 1).values()) == {()}
