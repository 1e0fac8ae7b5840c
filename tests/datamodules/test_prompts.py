import random
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from conftest import NAMES, QUESTION, photo, tiny_backbone
from templates import NEVER_THINKS, THINKS, processor_that_opens

from fgvr.data.closed_world import ClosedWorld
from fgvr.data.images import open_image
from fgvr.data.tasks import OpenWorld
from fgvr.datamodules import PromptData, SFTData, ShardSource
from fgvr.errors import UserError
from fgvr.models import PixelBudget, Processor
from fgvr.shards.manifest import load_manifest, save_manifest
from fgvr.shards.packing import pack
from fgvr.shards.reading import ShardSet
from fgvr.sources.image_folder import ImageFolder
from fgvr.types import PromptBatch

PER_CLASS = 5
WIDE = 140  # pixels of the one photo that is wider than the others: 15 image tokens instead of 9


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, out = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("shards")
    for row, name in enumerate(NAMES):
        for split, count in (("train", PER_CLASS), ("val", 1)):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                width = WIDE if (split, row, number) == ("train", 1, 2) else 84
                photo(width, 84, seed=100 * row + number).save(folder / split / name / f"{number}.png")
    pack(ImageFolder(folder), out)
    return out


def data_module(shards: Path, **options: Any) -> PromptData:
    options = {"batch_size": 6, "workers": 0} | options
    data = PromptData([ShardSource(shards)], OpenWorld(QUESTION), **options)
    data.processor = tiny_backbone().processor(PixelBudget(28 * 28, 84 * WIDE))
    data.setup("fit")
    return data


def facts(batch: PromptBatch) -> tuple[Any, ...]:
    uids = [example.uid for example in batch.examples]
    return batch.record, batch.places, uids, batch.input_ids.tolist(), batch.images.patches.tolist()


def length_of_longest(shards: Path) -> int:
    return max(batch.input_ids.shape[1] for batch in data_module(shards).train_dataloader())


@pytest.mark.parametrize("workers", [0, 1])
def test_every_sample_is_asked_about_exactly_once_an_epoch(shards: Path, workers: int):
    data = data_module(shards, workers=workers)
    batches: list[PromptBatch] = list(data.train_dataloader())
    uids = [example.uid for batch in batches for example in batch.examples]
    assert len(uids) == len(set(uids)) == len(data.order) == PER_CLASS * len(NAMES)
    assert sorted(place for batch in batches for place in batch.places) == list(range(len(uids)))
    assert [len(batch.examples) for batch in batches] == [6, 6, 6, 2]
    assert data.steps_per_epoch == 4
    assert data.train_dataloader().account().quarantined == 0


def test_training_asks_and_does_not_tell(shards: Path):
    data = data_module(shards)
    for batch in [*data.train_dataloader(), *data.val_dataloader()[0]]:
        for row, example in enumerate(batch.examples):
            text = data.processor.tokenizer.decode(batch.prompt(row).input_ids)
            assert QUESTION in text
            assert example.label not in text


def test_a_prompt_over_the_budget_is_quarantined_and_the_places_are_those_of_the_others(shards: Path):
    longest = length_of_longest(shards)
    data = data_module(shards, max_prompt_tokens=longest - 1, max_bad_share=0.1)
    whole: list[PromptBatch] = list(data_module(shards).train_dataloader())
    batches: list[PromptBatch] = list(data.train_dataloader())
    ((uid, reason),) = [pair for batch in batches for pair in batch.record.quarantined]
    assert reason == (
        f"a prompt must fit into max_prompt_tokens={longest - 1}, but that of {uid} has {longest} tokens: lower "
        "pixels.max or raise it"
    )
    stands = {
        example.uid: place for batch in whole for example, place in zip(batch.examples, batch.places, strict=True)
    }
    for batch in batches:
        assert batch.places == tuple(stands[example.uid] for example in batch.examples)
        assert len(batch.image_counts) == len(batch.examples) == len(batch.input_ids)
    assert stands[uid] not in {place for batch in batches for place in batch.places}
    tally = data.train_dataloader().account()
    assert (tally.read, tally.quarantined) == (len(data.order) - 1, 1)


def test_too_many_prompts_over_the_budget_stop_the_run(shards: Path):
    data = data_module(shards, max_prompt_tokens=length_of_longest(shards) - 1)
    with pytest.raises(UserError, match=r"at most 0\.10% .* lower pixels\.max or raise it"):
        list(data.train_dataloader())


@pytest.mark.parametrize("taken", [1, 3])
def test_a_resumed_epoch_gives_what_was_left_of_it(shards: Path, taken: int):
    whole = [facts(batch) for batch in data_module(shards).train_dataloader()]
    stopped = data_module(shards)
    stream = iter(stopped.train_dataloader())
    begun = [facts(next(stream)) for _ in range(taken)]
    resumed = data_module(shards)
    resumed.load_state_dict(stopped.state_dict())
    assert [*begun, *(facts(batch) for batch in resumed.train_dataloader())] == whole


def test_images_follow_the_prompts_they_belong_to(shards: Path):
    data = data_module(shards)
    for batch in data.train_dataloader():
        for row, example in enumerate(batch.examples):
            own, _ = data.processor.encode_images([open_image(example.images[0], example.uid)])
            prompt = batch.prompt(row)
            assert torch.equal(prompt.images.patches, own.patches)
            assert 4 * int((prompt.input_ids == data.processor.image_token).sum()) == len(own.patches)


def test_a_budget_of_no_tokens_is_refused(shards: Path):
    with pytest.raises(UserError, match="max_prompt_tokens must be at least 1, got 0"):
        data_module(shards, max_prompt_tokens=0)


def test_a_rollout_batch_has_sixteen_prompts_by_default(shards: Path):
    assert PromptData([ShardSource(shards)], OpenWorld()).batch_size == 16


def asking(shards: Path, task: OpenWorld, processor: Processor) -> PromptData:
    data = PromptData([ShardSource(shards)], task, batch_size=6, workers=0)
    data.processor = processor
    return data


def test_the_chat_template_is_compared_with_the_task(shards: Path, caplog: pytest.LogCaptureFixture):
    with pytest.raises(UserError, match="closes it before the model can think"):
        asking(shards, OpenWorld(think=True), processor_that_opens(NEVER_THINKS)).setup("validate")
    with pytest.raises(UserError, match="begins every reply with '<reason>'"):
        asking(shards, OpenWorld(), processor_that_opens("<reason>")).setup("fit")
    caplog.set_level("INFO", "fgvr")
    data = asking(shards, OpenWorld(), processor_that_opens(THINKS))
    data.setup("fit")
    assert data.task.always_thinks
    assert r"begins every reply with '<think>\n': it counts as part of it" in caplog.text


def test_questions_and_names_that_spell_control_tokens_are_refused_before_the_first_batch(shards: Path):
    with pytest.raises(UserError, match=r"the task's question must not spell .*, got <\|im_end\|> in 'What"):
        asking(shards, OpenWorld("What is it?<|im_end|>"), processor_that_opens("")).setup("fit")
    name = NAMES[0].split()[0]
    with pytest.raises(UserError, match=rf"a name of the taxonomy must not spell .*, got {name} in '{NAMES[0]}'"):
        asking(shards, OpenWorld(), processor_that_opens("", control=[name])).setup("validate")


def test_training_may_ask_otherwise_than_evaluation_with_options_in_a_new_order_each_epoch(shards: Path):
    def shown(epoch: int) -> dict[str, list[str]]:
        data = data_module(shards, train_task=ClosedWorld(options=3, letters=True))
        stream = data.train_dataloader()
        stream.start_epoch(epoch)
        return {example.uid: example.extra["shown"] for batch in stream for example in batch.examples}

    first, second = shown(0), shown(1)
    assert first == shown(0), "the order belongs to seed and epoch"
    assert first.keys() == second.keys()
    assert first != second
    data = data_module(shards, train_task=ClosedWorld(options=3, letters=True))
    assert isinstance(data.task, OpenWorld)
    assert isinstance(data.train_task, ClosedWorld)
    asked = [example for loader in data.val_dataloader() for batch in loader for example in batch.examples]
    assert asked
    assert not any("shown" in example.extra for example in asked)
    plain = data_module(shards)
    assert plain.train_task is plain.task


@pytest.mark.parametrize("kind", [PromptData, SFTData])
def test_no_option_in_training_is_of_a_held_out_class(
    shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: type[PromptData | SFTData]
):
    copytree(shards, tmp_path / "set")
    manifest = load_manifest(shards)
    save_manifest(replace(manifest, cohorts=dict(manifest.cohorts) | {NAMES[0]: "novel"}), tmp_path / "set")
    data = kind([ShardSource(tmp_path / "set")], OpenWorld(QUESTION), train_task=ClosedWorld(options=4), workers=0)
    data.processor = tiny_backbone().processor(PixelBudget(28 * 28, 84 * WIDE))
    with caplog.at_level("INFO"):
        data.setup("fit")
    assert "1 classes are held out of training: no option is one of these." in caplog.text
    draw = random.Random(0)
    whole = ShardSet(tmp_path / "set", "train", ("seen",))
    examples = [whole.read(number) for number in range(len(whole))]
    shown = {one.label: data.train_task.prepare(one, draw).extra["shown"] for one in examples}
    assert all(NAMES[0] not in names for label, names in shown.items() if label != NAMES[0])
    assert all(len(names) == len(NAMES) - 1 for label, names in shown.items() if label != NAMES[0])
