from pathlib import Path
from typing import Any

import pytest
import yaml
from hostile import jpeg
from lightning.pytorch import Trainer

from fgvr.aviary.source import Aviary
from fgvr.data.tasks import OpenWorld
from fgvr.datamodules import SFTData, ShardSource
from fgvr.models import PixelBudget, PolicyConfig, TinyQwen
from fgvr.models.attention_choice import AttentionSetting
from fgvr.modules import SFT
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.sources import CSV

CONFIG = yaml.safe_load((Path(__file__).parents[2] / "configs" / "quickstart.yaml").read_text())


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    pack(Aviary(species=48, unseen=4, train=4, val=1, test=0), folder)
    return folder


def data_module(shards: Path, **options) -> SFTData:
    settings = CONFIG["data"]["init_args"]
    task = OpenWorld(**settings["task"].get("init_args", {}))
    chosen: dict[str, Any] = (
        {key: settings[key] for key in ("batch_size", "micro_batch_tokens", "row_tokens")} | {"workers": 0} | options
    )
    data = SFTData([ShardSource(shards)], task, **chosen)
    backbone = CONFIG["model"]["init_args"]["policy"]["backbone"]["init_args"]
    pixels = PixelBudget(**CONFIG["model"]["init_args"]["policy"]["pixels"])
    data.processor = TinyQwen(str(shards / "manifest.json"), phrases=backbone["phrases"]).processor(pixels)
    data.setup("fit")
    return data


def test_rows_of_the_quickstart_waste_under_three_percent(shards: Path):
    room = filled = 0
    for batch in data_module(shards).train_dataloader():
        if batch.examples == CONFIG["data"]["init_args"]["batch_size"]:  # the epoch's last batch is a short one
            room += sum(rows.segments.numel() for rows in batch.micro_batches)
            filled += sum(int((rows.segments > 0).sum()) for rows in batch.micro_batches)
    assert room > 0
    assert 1 - filled / room < 0.03


@pytest.mark.parametrize(("attention", "padded"), [("sdpa", True), ("varlen", False), ("flash_attention_2", False)])
def test_padding_counts_where_attention_computes_it(shards: Path, attention: AttentionSetting, padded: bool):
    data = data_module(shards)
    assert data.train_collate().padded
    backbone = TinyQwen(str(shards / "manifest.json"))
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(SFT(PolicyConfig(backbone, attention=attention)))
    data.trainer = trainer
    assert data.train_collate().padded == padded


def test_workers_give_the_same_batches(shards: Path):
    plain, forked = (list(data_module(shards, workers=workers).train_dataloader()) for workers in (0, 1))
    assert [batch.record for batch in plain] == [batch.record for batch in forked]
    for one, other in zip(plain, forked, strict=True):
        for rows, twin in zip(one.micro_batches, other.micro_batches, strict=True):
            assert rows.input_ids.tolist() == twin.input_ids.tolist()
            assert rows.images is not None
            assert twin.images is not None
            assert rows.images.patches.tolist() == twin.images.patches.tolist()


def test_validation_asks_and_does_not_tell(shards: Path):
    data = data_module(shards, eval_batch_size=16, eval_examples=4)
    loaders = data.val_dataloader()
    assert data.cohorts == ["seen", "unseen"]
    for loader, cohort in zip(loaders, data.cohorts, strict=True):
        (batch,) = list(loader)
        assert {example.cohort for example in batch.examples} == {cohort}
        assert len({example.label for example in batch.examples}) == 4
        for example, ids in zip(batch.examples, batch.input_ids.tolist(), strict=True):
            assert example.label not in data.processor.tokenizer.decode(ids)


def test_a_mixture_of_depths_teaches_names_of_several_ranks(shards: Path):
    data = data_module(shards)
    data.task = OpenWorld(depth={"family": 1.0, "species": 1.0}).bind(data.taxonomy)
    taught: set[str] = set()
    for batch in data.train_dataloader():
        for rows in batch.micro_batches:
            spelt: dict[int, list[int]] = {}
            for sequence, token in zip(rows.target_sequence.tolist(), rows.target_ids.tolist(), strict=True):
                spelt.setdefault(sequence, []).append(token)
            for ids in spelt.values():
                answer = data.task.parse(data.processor.decode(ids))
                assert answer is not None
                taught.add(answer.text)
    depths = {len(data.taxonomy.lineage[name]) for name in taught}
    assert depths == {2, 4}


def test_a_response_in_a_column_is_what_is_taught(tmp_path: Path):
    rows, responses = ["file,label,family,photographer,response"], set[str]()
    birds = {"blue tit": "tits", "great tit": "tits", "raven": "crows", "rook": "crows"}
    for number, label in enumerate(list(birds) * 4):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number, (40 + number, 40)))
        response = f"<think>Photo {number}: a beak,\na tail.</think><answer>{label}</answer>"
        rows.append(f'{number}.jpg,{label},{birds[label]},Ann,"{response if number % 4 else ""}"')
        responses.add(
            response if number % 4 else f"<think>Family: tits. Class: {label}.</think><answer>{label}</answer>"
        )
    (tmp_path / "list.csv").write_text("\n".join(rows))
    pack(CSV(tmp_path / "list.csv"), tmp_path / "out", PackOptions(val=0, test=0))
    data = SFTData([ShardSource(tmp_path / "out")], OpenWorld(think=True), batch_size=4, workers=0)
    pixels = PixelBudget(28 * 28, 56 * 56)
    data.processor = TinyQwen(str(tmp_path / "out/manifest.json")).processor(pixels)
    data.setup("fit")
    taught: set[str] = set()
    for batch in data.train_dataloader():
        assert not batch.record.quarantined
        for rows_of in batch.micro_batches:
            spelt: dict[int, list[int]] = {}
            for sequence, token in zip(rows_of.target_sequence.tolist(), rows_of.target_ids.tolist(), strict=True):
                spelt.setdefault(sequence, []).append(token)
            taught |= {data.processor.decode(ids) for ids in spelt.values()}
    assert taught == responses


@pytest.mark.parametrize(("think", "told"), [(False, 1), (True, 0)])
def test_responses_that_the_task_does_not_teach_are_told_of_once(tmp_path, caplog, think: bool, told: int):
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number))
    rows = [f"{n}.jpg,{'ab'[n % 2]},{'no tags' if n < 3 else ''}" for n in range(4)]
    (tmp_path / "list.csv").write_text("\n".join(["file,label,response", *rows]))
    out = tmp_path / "out"
    pack(CSV(tmp_path / "list.csv"), out, PackOptions(val=0, test=0))
    data = SFTData([ShardSource(out)], OpenWorld(think=think), workers=0)
    data.processor = TinyQwen(str(out / "manifest.json")).processor(PixelBudget(784, 784))
    caplog.clear()
    data.setup("fit")
    data.setup("validate")
    sentence = (
        f"3 pictures to train on in {out} have a response, which is not taught: set "
        "data.init_args.task.init_args.think true to teach it"
    )
    assert caplog.messages.count(sentence) == told
    assert len(caplog.messages) == told
