import logging
from pathlib import Path
from typing import Any

import pytest
from conftest import NAMES, tiny_backbone
from hostile import jpeg
from parquet_rows import QUESTION, row, written
from toy_triplets import EVEN, examples_of, facts, packed, triplet_data, write_photos

from fgvr.data import OpenWorld, OwnQuestion
from fgvr.data.images import open_image
from fgvr.datamodules import ShardSource
from fgvr.datamodules.triplets import TripletData
from fgvr.errors import UserError
from fgvr.models import PixelBudget
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.similarity import Siblings
from fgvr.sources import ImageFolder, PartnerRecord, Record, TripletParquet


def frozen(folder: Path, counts: dict[str, int] = EVEN, **options: Any) -> Path:
    """A set with triplets in it, by siblings."""
    pack(
        ImageFolder(write_photos(folder / "photos", counts)),
        folder / "shards",
        PackOptions(**options),
        triplets=Siblings(),
    )
    return folder / "shards"


def test_frozen_partners_are_the_same_in_every_epoch(tmp_path: Path):
    shards = frozen(tmp_path)
    data = triplet_data(shards, similarity=None)
    first, second = facts(examples_of(data)), facts(examples_of(data))
    assert first != second
    assert sorted(first) == sorted(second)
    told = {entry.key: {one.view: one.uid for one in entry.partners} for entry in data.train_sets[0].entries()}
    assert {uid: {"pos": positive, "neg": negative} for uid, positive, negative in first} == told


def test_photos_of_partners_reach_the_batch_with_grids_of_their_own(tmp_path: Path):
    data = triplet_data(frozen(tmp_path), similarity=None)
    for batch in data.train_dataloader():
        assert batch.roles.count("anchor") == batch.roles.count("positive") == len(batch.examples)
        for number, example in enumerate(batch.examples):
            for role, place in batch.rows_of(number).items():
                partner = {"anchor": example, "positive": example.positive, "negative": example.negative}[role]
                own, _ = data.processor.encode_images([open_image(partner.images[0], partner.uid)])
                assert (batch.prompt(place).images.grid_thw == own.grid_thw).all()
                assert (batch.prompt(place).images.patches == own.patches).all()


class Views(OpenWorld):
    """Asks about all views of a sample at once."""

    def images(self, example: Any) -> tuple[bytes, ...]:
        return example.images


@pytest.mark.parametrize("similarity", [None, Siblings()])
def test_several_images_of_a_partner_reach_the_batch_together(tmp_path: Path, similarity: Siblings | None):
    classes = tmp_path / "classes.yaml"
    classes.write_text("ranks: [size, bird]\npaths: {Robin: [small, Robin], Wren: [small, Wren]}\n")
    views = [{"image_noisy": [*row(n, "")["image_noisy"], *row(n + 50, "")["images"]]} for n in range(6)]
    rows = [row(n, ("Robin", "Wren")[n % 2], **(views[n] if n % 3 else {})) for n in range(6)]
    pack(TripletParquet(written(tmp_path / "rows.parquet", rows), classes), tmp_path / "out")
    data = TripletData([ShardSource(tmp_path / "out")], Views(), similarity=similarity, batch_size=4, workers=0)
    data.processor = tiny_backbone().processor(PixelBudget(28 * 28, 84 * 84))
    data.setup("fit")
    seen = []
    for batch in data.train_dataloader():
        for number, example in enumerate(batch.examples):
            for role, place in batch.rows_of(number).items():
                shown = {"anchor": example, "positive": example.positive, "negative": example.negative}[role]
                own, _ = data.processor.encode_images([open_image(one, shown.uid) for one in shown.images])
                assert (batch.prompt(place).images.grid_thw == own.grid_thw).all()
                assert (batch.prompt(place).images.patches == own.patches).all()
                seen.append((role, len(shown.images)))
    assert seen.count(("positive", 2)) == (4 if similarity is None else 0)
    assert len(seen) == 18


def test_a_set_without_frozen_partners_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"need a positive, but none of 30 .*`python -m fgvr shards --triplets`"):
        triplet_data(packed(tmp_path / "birds"), similarity=None)


def test_frozen_partners_that_are_not_learned_from_are_refused(tmp_path: Path):
    shards = frozen(tmp_path / "a")
    with pytest.raises(
        UserError, match=r"which data.train.examples or data.within leaves out: pack the set with k_shot or"
    ):
        triplet_data(ShardSource(shards, examples=8), similarity=None)
    few = frozen(tmp_path / "b", k_shot=2)
    assert len(examples_of(triplet_data(few, similarity=None))) == 12


def test_a_frozen_partner_of_val_or_test_is_refused(tmp_path: Path):
    root = write_photos(tmp_path / "photos", EVEN)
    shown = root / "train/Owl/Jade Owl/0.png"
    (root / "val/Owl/Jade Owl/1.png").write_bytes(shown.read_bytes())
    pack(ImageFolder(root), tmp_path / "all", triplets=Siblings())
    with pytest.raises(
        UserError, match=r"no picture of val or test may be trained on, but .* is train/.*\.(pos|neg) of"
    ):
        triplet_data(tmp_path / "all", similarity=None)
    assert triplet_data(tmp_path / "all", similarity=None, allow_leaks=True)


def test_rows_of_the_second_stage_train_as_they_are(tmp_path: Path):
    """What is asked is the row's own text, token by token, and its three photos are those of the row."""
    rows = [row(number, label) for number, label in enumerate(NAMES * 2)]
    source = TripletParquet(written(tmp_path / "stage2.parquet", rows))
    entry = ShardSource(tmp_path / "out", source=source)
    val = packed(tmp_path / "val", first=500)
    data = TripletData([entry], OwnQuestion(), similarity=None, val=[val], batch_size=3, workers=0, allow_leaks=False)
    data.processor = tiny_backbone().processor(PixelBudget(28 * 28, 84 * 84))
    data.prepare_data()
    with pytest.raises(UserError, match="must share ranks and root"):
        data.setup("fit")  # birds with families cannot be judged by a list of names
    data = TripletData([entry], OwnQuestion(), similarity=None, batch_size=3, workers=0)
    data.processor = tiny_backbone().processor(PixelBudget(28 * 28, 84 * 84))
    data.setup("fit")
    examples = []
    for batch in data.train_dataloader():
        for number, example in enumerate(batch.examples):
            examples.append(example)
            for row_number in batch.rows_of(number).values():
                said = str(data.processor.tokenizer.decode(batch.prompt(row_number).input_ids))
                turn = said.partition("<|im_start|>user\n")[2].partition("<|im_end|>")[0]
                photo, _, text = turn.partition("<|vision_end|>")
                assert text == QUESTION.removeprefix("<image>")
                assert not photo.replace("<|vision_start|>", "").replace("<|image_pad|>", "")
    assert sorted(one.label for one in examples) == sorted(NAMES * 2)
    assert all(one.negative and not one.negative.label for one in examples)
    few = TripletData([ShardSource(tmp_path / "out", examples=4)], OwnQuestion(), similarity=None, workers=0)
    few.processor = data.processor
    few.setup("fit")
    assert len(few.order) == 4


class Foreign(ImageFolder):
    """Photos with the partners that somebody else chose for them: by name, the numbers of two photos."""

    chosen: dict[str, tuple[int, int]] = {}  # noqa: RUF012

    def records(self):
        for one in super().records():
            assert isinstance(one, Record)
            if one.split != "train":
                continue
            positive, negative = self.chosen.get(one.name.removeprefix("train/"), (90, 91))
            partners = (
                PartnerRecord(f"p{positive}", one.label, lambda number=positive: (jpeg(number),)),
                PartnerRecord(f"n{negative}", "", lambda number=negative: (jpeg(number),)),
            )
            yield Record(one.name, one.label, one.path, "train", None, one.load, {}, "", *partners)


def test_foreign_partners_are_left_out_by_what_the_other_photos_of_the_set_are(tmp_path: Path, caplog: Any):
    """Their names tell nothing, but their bytes do: the even photos are Robins, and photo 9 stands in both classes."""

    class Chosen(Foreign):
        chosen = {  # noqa: RUF012
            "Robin/0.jpg": (2, 1),  # as it should be
            "Robin/2.jpg": (0, 4),  # a negative that is a photo of its own class
            "Robin/4.jpg": (11, 11),  # a positive that stands in the other class too, and is the very same picture
            "Robin/6.jpg": (9, 3),  # a positive under two labels
            "Wren/1.jpg": (3, 9),  # a negative under two labels
            "Wren/3.jpg": (5, 6),
            "Wren/5.jpg": (3, 13),  # a negative that is the positive of another photo of its class
            "Wren/7.jpg": (13, 0),
        }

    root = tmp_path / "birds"
    for name in (*Chosen.chosen, "Robin/9.jpg", "Wren/9.jpg", "Wren/11.jpg"):
        file = root / "train" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg(int(file.stem)))
    pack(Chosen(root), tmp_path / "out")
    with caplog.at_level(logging.WARNING, "fgvr"):
        data = triplet_data(tmp_path / "out", similarity=None, max_incomplete_share=0.9)
    assert "1 pictures stand under two labels and are nobody's partner" in caplog.text
    number = {jpeg(number): number for number in range(100)}
    kept = {
        f"{one.label}/{number[one.images[0]]}.jpg": tuple(
            partner and number[partner.images[0]] for partner in (one.positive, one.negative)
        )
        for one in examples_of(data)
    }
    assert {name: pair for name, pair in kept.items() if name in Chosen.chosen} == {
        "Robin/0.jpg": (2, 1),
        "Robin/2.jpg": (0, None),
        "Robin/4.jpg": (None, None),
        "Robin/6.jpg": (None, 3),
        "Wren/1.jpg": (3, None),
        "Wren/3.jpg": (5, 6),
        "Wren/5.jpg": (3, None),
        "Wren/7.jpg": (13, 0),
    }
    assert "5 of 11 pictures to train on have no positive, those of 'Robin' (3), 'Wren' (2)" in caplog.text
    assert "4 of 11 pictures to train on have no negative, those of 'Robin' (2), 'Wren' (2)" in caplog.text


def test_one_photo_beside_both_as_positive_and_as_negative_is_neither(tmp_path: Path):
    source = TripletParquet(
        written(tmp_path / "rows.parquet", [row(0, "Robin"), row(1, "Wren", image_aug=row(0, "")["image_noisy"])])
    )
    pack(source, tmp_path / "out")
    kept = {
        one.label: (one.positive is not None, one.negative and one.negative.label)
        for one in examples_of(triplet_data(tmp_path / "out", similarity=None, max_incomplete_share=1.0))
    }
    assert kept == {"Robin": (True, ""), "Wren": (True, "Robin")}
