import random
from io import BytesIO

import pytest
import torch
from conftest import NAMES, photo, tiny_policy

from fgvr.data.augment import Augment
from fgvr.data.collate import PromptCollate, PromptEncode, SFTCollate, SFTEncode
from fgvr.data.tasks import OpenWorld
from fgvr.data.taxonomy import Taxonomy
from fgvr.errors import SampleError, UserError
from fgvr.types import Example, ReadRecord

RECORD = ReadRecord(0, 0, (0,), ("a",))


def example(label: str = NAMES[0], seed: int = 0, width: int = 84) -> Example:
    file = BytesIO()
    photo(width, 84, seed).save(file, "PNG")
    return Example(f"u{seed}", (file.getvalue(),), label, (label,), "train", "seen", "d")


def task() -> OpenWorld:
    return OpenWorld().bind(Taxonomy.flat(NAMES))


def test_targets_are_the_assistant_s_tokens_and_nothing_else():
    processor = tiny_policy().processor
    encode = SFTEncode(processor, task(), 500, Augment())
    items = [encode(example(name, seed), random.Random(0)) for seed, name in enumerate(NAMES)]
    batch = SFTCollate(processor.padding_token, 10_000, 150)(items, RECORD)
    (rows,) = batch.micro_batches
    spelt: dict[int, list[int]] = {}
    for sequence, token in zip(rows.target_sequence.tolist(), rows.target_ids.tolist(), strict=True):
        spelt.setdefault(sequence, []).append(token)
    assert sorted(processor.decode(ids) for ids in spelt.values()) == sorted(
        f"<answer>{name}</answer>" for name in NAMES
    )
    assert all(ids[-1] == processor.end_of_turn for ids in spelt.values())
    assert batch.target_tokens == len(rows.target_ids)


def test_the_photos_follow_the_sequences_they_belong_to():
    processor = tiny_policy().processor
    encode = SFTEncode(processor, task(), 500, Augment())
    items = [encode(example(NAMES[0], seed, width=84 + 28 * seed), random.Random(0)) for seed in range(3)]
    (rows,) = SFTCollate(processor.padding_token, 10_000, 150)(items, RECORD).micro_batches
    assert rows.images is not None
    patches = rows.images.grid_thw.prod(-1).tolist()
    runs = (rows.input_ids == processor.image_token).sum(1).tolist()
    assert sum(patches) // 4 == sum(runs)
    start = 0
    for count in patches:  # each image's patches stand whole, in the order of the rows
        block = rows.images.patches[start : start + count]
        assert any(torch.equal(block, item.images.patches) for item in items)
        start += count


def test_micro_batches_keep_to_the_token_budget():
    processor = tiny_policy().processor
    encode = SFTEncode(processor, task(), 150, Augment())
    items = [encode(example(NAMES[0], seed), random.Random(0)) for seed in range(5)]
    length = len(items[0].input_ids)
    batch = SFTCollate(processor.padding_token, 2 * length, 512)(items, RECORD)
    assert [int((rows.segments > 0).sum()) for rows in batch.micro_batches] == [2 * length, 2 * length, length]


def test_a_sequence_over_the_budget_is_refused_by_name():
    processor = tiny_policy().processor
    with pytest.raises(SampleError, match=r"u0 has \d+ tokens"):
        SFTEncode(processor, task(), 20, Augment())(example(), random.Random(0))


def test_a_label_that_spells_a_control_token_is_refused():
    processor = tiny_policy().processor
    with pytest.raises(SampleError, match="control token"):
        processor.encode_target("an <|image_pad|> bird")


def test_prompts_are_padded_on_the_left():
    processor = tiny_policy().processor
    encode = PromptEncode(processor, task())
    items = [encode(example(seed=1, width=56), random.Random(0)), encode(example(seed=2, width=84), random.Random(0))]
    batch = PromptCollate(processor.padding_token, processor.image_token)(items, RECORD)
    short, long = (len(prompt.input_ids) for _, prompt in items)
    assert batch.attention_mask.sum(1).tolist() == [short, long]
    assert batch.attention_mask[0, : long - short].sum() == 0
    assert batch.image_tokens.sum(1).tolist() == [6, 9]


def test_an_empty_prompt_batch_has_no_examples():
    assert PromptCollate(0, 1)([], RECORD).examples == []


def test_augmentation_is_off_by_default_and_drawn_from_the_generator():
    image = photo(60, 40)
    assert Augment()(image, random.Random(0)).tobytes() == image.tobytes()
    changed = Augment(mirror=0.5, crop=0.6, brightness=0.3)
    assert changed(image, random.Random(3)).tobytes() == changed(image, random.Random(3)).tobytes()
    assert changed(image, random.Random(3)).tobytes() != image.tobytes()
    assert Augment(mirror=1.0)(image, random.Random(0)).getpixel((0, 0)) == image.getpixel((59, 0))


@pytest.mark.parametrize("bad", [{"mirror": 2.0}, {"crop": 0.0}, {"brightness": 1.0}])
def test_augmentation_out_of_range_is_refused(bad):
    with pytest.raises(UserError, match="augmentation takes"):
        Augment(**bad)


def test_a_micro_batch_of_no_tokens_is_refused():
    with pytest.raises(UserError, match="at least 1"):
        SFTCollate(0, 0, 10)
