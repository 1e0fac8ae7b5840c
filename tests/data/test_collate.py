import random
from dataclasses import replace
from io import BytesIO

import pytest
import torch
from conftest import NAMES, photo, tiny_policy
from hypothesis import given, settings
from hypothesis import strategies as st
from templates import NEVER_THINKS, THINKS, processor_that_opens

from fgvr.data.augment import Augment
from fgvr.data.closed_world import ClosedWorld
from fgvr.data.collate import (
    PromptCollate,
    PromptEncode,
    SFTCollate,
    SFTEncode,
    TripletEncode,
    places_of,
    without_negatives,
)
from fgvr.data.tasks import OpenWorld
from fgvr.errors import SampleError, UserError
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import EncodedPrompt, Example, ImageInputs, Partner, ReadRecord

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


@pytest.mark.parametrize(("opening", "think"), [(THINKS, True), (THINKS, False), (NEVER_THINKS, False)])
def test_a_thought_that_the_template_opens_is_not_opened_twice(opening: str, think: bool):
    processor = processor_that_opens(opening)
    asked = OpenWorld(think=think).bind(Taxonomy.flat(NAMES)).opened(processor.opening)
    item = SFTEncode(processor, asked, 500, Augment())(example(), random.Random(0))
    turn = str(processor.tokenizer.decode(item.input_ids.tolist())).rpartition("<|im_start|>assistant\n")[2]
    assert [turn.count(tag) for tag in ("<think>", "</think>", "<answer>", "</answer>")] == [1, 1, 1, 1]
    assert turn.startswith(opening)
    reply = processor.decode(item.input_ids[-item.targets :].tolist())
    assert asked.parse(reply) == asked.parse(turn.removesuffix("<|im_end|>"))
    assert asked.parse(reply).text == NAMES[0]  # pyright: ignore[reportOptionalMemberAccess]


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


def test_where_no_padding_is_computed_none_is_counted():
    processor = tiny_policy().processor
    encode = SFTEncode(processor, task(), 150, Augment())
    items = [encode(example(NAMES[0], seed, width), random.Random(0)) for seed, width in enumerate((84, 28, 28))]
    lengths = [len(item.input_ids) for item in items]
    assert lengths[0] > lengths[1] == lengths[2]
    # in rows of one sequence each the second row is padded to the first; without padding all three fit
    budget, row_tokens = sum(lengths), lengths[0]
    padded, flat = (
        SFTCollate(processor.padding_token, budget, row_tokens, padded)(items, RECORD) for padded in (True, False)
    )
    assert [rows.input_ids.numel() <= budget for rows in padded.micro_batches] == [True, True]
    (rows,) = flat.micro_batches
    assert rows.input_ids.shape == (1, budget)
    assert rows.segments[0].tolist() == [n for n, length in enumerate(lengths, 1) for _ in range(length)]
    assert torch.equal(rows.input_ids[0], torch.cat([item.input_ids for item in items]))
    spelt = [rows.target_ids[rows.target_sequence == n].tolist() for n in range(3)]
    assert spelt == [item.input_ids[-item.targets :].tolist() for item in items]


def test_a_sequence_over_the_budget_is_refused_by_name():
    processor = tiny_policy().processor
    with pytest.raises(SampleError, match=r"u0 has \d+ tokens"):
        SFTEncode(processor, task(), 20, Augment())(example(), random.Random(0))


def test_a_label_that_spells_a_control_token_is_refused():
    processor = tiny_policy().processor
    with pytest.raises(SampleError, match="control token"):
        processor.encode_target("an <|image_pad|> bird")


def test_a_response_or_an_option_that_spells_a_control_token_is_one_bad_sample():
    processor, bird = tiny_policy().processor, example()
    response = f"<think>It is<|endoftext|> small.</think><answer>{NAMES[0]}</answer>"
    told = replace(bird, extra={"response": response, "options": [NAMES[1], "Owl<|im_end|>"]})
    thinks = OpenWorld(think=True).bind(Taxonomy.flat(NAMES))
    with pytest.raises(SampleError, match=r"an answer must not spell a control token, got <\|endoftext\|>"):
        SFTEncode(processor, thinks, 500, Augment())(told, random.Random(0))
    choice = ClosedWorld(3).bind(Taxonomy.flat(NAMES))
    for encode in (SFTEncode(processor, choice, 500, Augment()), PromptEncode(processor, choice)):
        with pytest.raises(SampleError, match=r"prompt must not spell a control token, got <\|im_end\|>"):
            encode(told, random.Random(0))


def test_prompts_are_padded_on_the_left():
    processor = tiny_policy().processor
    encode = PromptEncode(processor, task())
    items = [encode(example(seed=1, width=56), random.Random(0)), encode(example(seed=2, width=84), random.Random(0))]
    record = ReadRecord(0, 0, (4, 7), ("u1", "u2"))
    batch = PromptCollate(processor.padding_token, processor.image_token)(items, record)
    short, long = (len(prompt.input_ids) for _, prompt in items)
    assert batch.attention_mask.sum(1).tolist() == [short, long]
    assert batch.attention_mask[0, : long - short].sum() == 0
    assert batch.positions[:, 0, : long - short].sum() == 0
    assert torch.equal(batch.positions[:, 0, long - short :], items[0][1].positions)
    assert batch.image_tokens.sum(1).tolist() == [6, 9]
    assert (batch.image_counts, batch.places) == ((1, 1), (4, 7))


@given(
    grids=st.lists(
        st.lists(st.tuples(st.just(1), st.integers(1, 3), st.integers(1, 3)), max_size=3), min_size=1, max_size=5
    ),
    lengths=st.lists(st.integers(1, 9), min_size=5, max_size=5),
)
@settings(max_examples=50, deadline=None)
def test_each_prompt_comes_out_of_its_batch_as_it_went_in(grids: list[list[tuple[int, int, int]]], lengths: list[int]):
    prompts: list[EncodedPrompt] = []
    for own, length in zip(grids, lengths, strict=False):
        patches = torch.randint(0, 256, (sum(h * w for _, h, w in own), 4), dtype=torch.uint8)
        images = ImageInputs(patches, torch.tensor(own, dtype=torch.long).reshape(-1, 3))
        prompts.append(EncodedPrompt(torch.randint(1, 50, (length,)), torch.randint(1, 50, (3, length)), images))
    uids = tuple(f"u{row}" for row in range(len(prompts)))
    examples = [Example(uid, (), "", (), "train", "seen", "d") for uid in uids]
    record = ReadRecord(0, 0, tuple(range(len(uids))), uids)
    batch = PromptCollate(0, 99)(list(zip(examples, prompts, strict=True)), record)
    assert batch.image_counts == tuple(len(own) for own in grids)
    for row, prompt in enumerate(prompts):
        again = batch.prompt(row)
        assert torch.equal(again.input_ids, prompt.input_ids)
        assert torch.equal(again.positions, prompt.positions)
        assert torch.equal(again.images.patches, prompt.images.patches)
        assert torch.equal(again.images.grid_thw, prompt.images.grid_thw)
    for row in (-1, len(prompts)):
        with pytest.raises(IndexError, match="has no row"):
            batch.prompt(row)


def test_places_are_those_of_the_samples_that_were_not_quarantined():
    examples = [Example(uid, (), "", (), "train", "seen", "d") for uid in ("a", "c", "a")]
    record = ReadRecord(0, 0, (3, 5, 8, 9), ("a", "b", "c", "a"), (("b", "cut short"),))
    assert places_of(examples, record) == (3, 8, 9)
    for wrong in (examples[:2], [*examples, examples[0]], [examples[1], examples[0], examples[2]]):
        with pytest.raises(ValueError, match="every example of its record"):
            places_of(wrong, record)


def test_a_prompt_over_the_budget_is_refused_and_never_cut():
    processor = tiny_policy().processor
    _, prompt = PromptEncode(processor, task())(example(), random.Random(0))
    length = len(prompt.input_ids)
    assert PromptEncode(processor, task(), length)(example(), random.Random(0))[1].input_ids.tolist() == (
        prompt.input_ids.tolist()
    )
    with pytest.raises(
        SampleError, match=rf"max_prompt_tokens={length - 1}, but that of u0 has {length} tokens: lower"
    ):
        PromptEncode(processor, task(), length - 1)(example(), random.Random(0))


def triple(label: str = NAMES[0]) -> Example:
    """Three photos of three sizes, those of the partners under uids of their own."""
    anchor, positive, negative = example(label, 0, 56), example(label, 1, 84), example(NAMES[1], 2, 28)
    partners = [Partner(one.images, one.uid, one.label) for one in (positive, negative)]
    return replace(anchor, positive=partners[0], negative=partners[1])


def choosing() -> ClosedWorld:
    return ClosedWorld(3, letters=True).bind(Taxonomy.flat(NAMES))


@pytest.mark.parametrize("asked", [task(), choosing()])
def test_a_triplet_is_asked_the_same_about_three_photos(asked):
    processor = tiny_policy().processor
    before, after = random.Random(3), random.Random(3)
    plain, prompt = PromptEncode(processor, asked)(triple(), before)
    kept, prompts = TripletEncode(processor, asked)(triple(), after)
    assert kept == plain
    assert before.getstate() == after.getstate()
    assert list(prompts) == ["anchor", "positive", "negative"]
    assert torch.equal(prompts["anchor"].input_ids, prompt.input_ids)
    assert torch.equal(prompts["anchor"].images.patches, prompt.images.patches)
    asked_in = [p.input_ids[p.input_ids != processor.image_token] for p in prompts.values()]
    texts = {str(processor.tokenizer.decode(ids)) for ids in asked_in}
    assert len(texts) == 1
    sizes = [int((p.input_ids == processor.image_token).sum()) for p in prompts.values()]
    assert sizes == [6, 9, 3]
    for each, width in zip(prompts.values(), (56, 84, 28), strict=True):  # a grid and positions of its own
        alone = processor.encode_prompt(asked.messages(kept, random.Random(3)), [photo(width)])
        assert torch.equal(each.images.grid_thw, alone.images.grid_thw)
        assert torch.equal(each.positions, alone.positions)


def test_a_partner_that_cannot_be_read_is_named_itself():
    encode = TripletEncode(tiny_policy().processor, task())
    for role in ("positive", "negative"):
        broken = replace(triple(), **{role: Partner((b"no photo",), f"other-{role}", NAMES[0])})
        with pytest.raises(SampleError, match=f"other-{role}"):
            encode(broken, random.Random(0))
    _, prompts = encode(triple(), random.Random(0))
    short = TripletEncode(encode.processor, task(), len(prompts["anchor"].input_ids))
    with pytest.raises(SampleError, match="that of u1 has"):  # the positive's is the longest
        short(triple(), random.Random(0))


def test_triplets_and_plain_examples_share_a_batch():
    processor = tiny_policy().processor
    encode, plain = TripletEncode(processor, task()), PromptEncode(processor, task())
    without = replace(triple(), uid="u8", positive=None)
    items = [plain(example(seed=7), random.Random(0)), encode(triple(), random.Random(0))]
    items.append(encode(without, random.Random(0)))
    record = ReadRecord(0, 0, (4, 5, 6), ("u7", "u0", "u8"))
    batch = PromptCollate(processor.padding_token, processor.image_token)(items, record)
    assert batch.roles == ("anchor",) * 3 + ("positive", "negative", "negative")
    assert batch.owners == (0, 1, 2, 1, 1, 2)
    assert [batch.rows_of(number) for number in range(3)] == [
        {"anchor": 0},
        {"anchor": 1, "positive": 3, "negative": 4},
        {"anchor": 2, "negative": 5},
    ]
    for row, (owner, role) in enumerate(zip(batch.owners, batch.roles, strict=True)):
        asked = items[owner][1]
        expected = asked if isinstance(asked, EncodedPrompt) else asked[role]
        assert torch.equal(batch.prompt(row).input_ids, expected.input_ids)
        assert torch.equal(batch.prompt(row).positions, expected.positions)
        assert torch.equal(batch.prompt(row).images.patches, expected.images.patches)
    answered = without_negatives(batch)
    assert (answered.roles, answered.owners) == (batch.roles[:4], batch.owners[:4])
    assert torch.equal(answered.prompt(3).images.patches, batch.prompt(3).images.patches)
    assert len(answered.images.patches) == sum(len(batch.prompt(row).images.patches) for row in range(4))
    moved = batch.to("cpu")
    assert (moved.owners, moved.roles) == (batch.owners, batch.roles)


def test_an_empty_prompt_batch_has_no_examples():
    record = ReadRecord(0, 0, (0,), ("a",), (("a", "cut short"),))
    batch = PromptCollate(0, 1)([], record)
    assert (batch.examples, batch.image_counts, batch.places) == ([], (), ())


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
