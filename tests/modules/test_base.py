from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import NAMES, tiny_backbone, tiny_policy
from lightning.pytorch import Callback, Trainer
from prompted import REPLIES, Prompts, Watched
from scripted import Scripted
from templates import THINKS, template_that_opens

from fgvr.callbacks import RolloutGeneration
from fgvr.errors import UserError
from fgvr.models import LoRA, PixelBudget, PolicyConfig, Pretrained, TinyQwen, Trained
from fgvr.models.decoder import Decoder
from fgvr.models.sampling import Sampling
from fgvr.modules import SFT
from fgvr.rewards import Format

PIXELS = PixelBudget(784, 7056)


def built(backbone, fn: str = "validate", **options: Any) -> SFT:
    """A module as a Trainer has it when it loads a checkpoint."""
    module = SFT(PolicyConfig(backbone, **{"pixels": PIXELS, **options}))
    module.configure_model()
    module._trainer = SimpleNamespace(state=SimpleNamespace(fn=fn))  # pyright: ignore[reportAttributeAccessIssue]
    return module


def saved(module: SFT) -> dict[str, Any]:
    checkpoint = {"state_dict": {name: value.clone() for name, value in module.state_dict().items()}}
    module.on_save_checkpoint(checkpoint)
    return checkpoint


@pytest.fixture
def folder(tmp_path):
    first = tiny_policy()
    first.base.save_pretrained(tmp_path)
    first.processor.save(tmp_path)
    return tmp_path


def test_frozen_weights_of_a_loadable_base_are_left_out_and_come_back(folder):
    module = built(Pretrained(str(folder)), lora=LoRA(rank=2, alpha=4.0))
    with torch.no_grad():
        for _, parameter in module.trained_policy.trainable():
            parameter += 1
    checkpoint = saved(module)
    assert all("lora_" in name for name in checkpoint["state_dict"] if name.startswith("policy."))
    fresh = built(Pretrained(str(folder)), lora=LoRA(rank=2, alpha=4.0))
    fresh.on_load_checkpoint(checkpoint)
    fresh.load_state_dict(checkpoint["state_dict"])
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in module.state_dict().items())


def test_a_random_model_is_saved_whole():
    checkpoint = saved(built(tiny_backbone(), freeze=("vision",)))
    assert any("visual" in name for name in checkpoint["state_dict"])


@pytest.mark.parametrize("fn", ["fit", "validate"])
def test_another_tokenizer_is_refused(fn):
    checkpoint = saved(built(tiny_backbone()))
    sizes: dict[str, Any] = {"hidden": 64, "layers": 2, "heads": 2, "vision_hidden": 32, "vision_layers": 2}
    words = [f"<answer>{name[::-1]}</answer>" for name in NAMES]
    other = TinyQwen(words, tokens=400, **sizes)
    size = len(tiny_backbone().processor(PIXELS).tokenizer)
    other.phrases = [chr(0x4E00 + i) * 9 for i in range(2 * size)]  # as many words, so that the shapes agree
    other.tokens = size
    with pytest.raises(UserError, match="tokenizer"):
        built(other, fn).on_load_checkpoint(checkpoint)


def test_another_pixel_budget_is_refused_where_nothing_is_trained():
    checkpoint = saved(built(tiny_backbone()))
    with pytest.raises(UserError, match=r"these differ: pixels \(784 to 7056 then, 784 to 9000 now\)"):
        built(tiny_backbone(), pixels=PixelBudget(784, 9000)).on_load_checkpoint(dict(checkpoint))
    built(tiny_backbone(), "fit", pixels=PixelBudget(784, 9000)).on_load_checkpoint(dict(checkpoint))


def test_another_base_is_refused(folder):
    checkpoint = saved(built(Pretrained(str(folder)), lora=LoRA(rank=2)))
    changed = tiny_policy()
    with torch.no_grad():
        changed.base.lm_head.weight += 1
    changed.base.save_pretrained(folder)
    with pytest.raises(UserError, match="these differ: base weights"):
        built(Pretrained(str(folder)), lora=LoRA(rank=2)).on_load_checkpoint(checkpoint)


def test_a_checkpoint_of_other_weights_is_refused():
    checkpoint = saved(built(tiny_backbone()))
    checkpoint["state_dict"].pop("policy.model.lm_head.weight")
    with pytest.raises(UserError, match="lacks"):
        built(tiny_backbone()).on_load_checkpoint(checkpoint)


def test_attention_is_settled_before_the_model_is_built(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "fgvr")
    cuda, cpu = (SimpleNamespace(root_device=torch.device(kind)) for kind in ("cuda", "cpu"))
    module = SFT(PolicyConfig(tiny_backbone(), PIXELS, attention="varlen"))
    module._trainer = SimpleNamespace(precision="32-true", strategy=cuda)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(UserError, match="bfloat16"):
        module.setup("fit")
    assert module.policy is None
    module = SFT(PolicyConfig(tiny_backbone(), PIXELS))
    module._trainer = SimpleNamespace(precision="bf16-mixed", strategy=cpu)  # pyright: ignore[reportAttributeAccessIssue]
    module.setup("validate")
    assert "Attention" not in caplog.text
    module.setup("fit")
    assert module.policy_config.attention == "sdpa"
    assert "Attention is computed by torch's scaled_dot_product_attention" in caplog.text


def test_another_chat_template_is_refused(folder):
    checkpoint = saved(built(Pretrained(str(folder))))
    (folder / "chat_template.jinja").write_text(template_that_opens(THINKS))
    with pytest.raises(UserError, match="these differ: chat template"):
        built(Pretrained(str(folder))).on_load_checkpoint(checkpoint)


@pytest.mark.parametrize("fn", ["fit", "validate"])
def test_what_is_trained_is_said_where_a_run_trains(fn: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "fgvr")
    module = SFT(PolicyConfig(tiny_backbone(), PIXELS, lora=LoRA(rank=2, alpha=4.0)))
    module._trainer = SimpleNamespace(state=SimpleNamespace(fn=fn))  # pyright: ignore[reportAttributeAccessIssue]
    module.configure_model()
    assert ("LoRA of rank 2, scale 2, on 14 layers: language 14 (q_proj 2, k_proj 2" in caplog.text) == (fn == "fit")


def test_only_weights_that_know_something_are_worth_a_score(folder):
    assert SFT(PolicyConfig(Pretrained(str(folder)))).scores_start
    assert SFT(PolicyConfig(Trained("runs/another"))).scores_start
    assert not SFT(PolicyConfig(tiny_backbone())).scores_start


class Evaluated(Prompts):
    def val_dataloader(self):
        return self.train_dataloader()

    test_dataloader = predict_dataloader = val_dataloader


class Asking(Callback):
    """Asks for a decoder twice: within every evaluation's batches, pass by pass, and within training's."""

    def __init__(self) -> None:
        self.passes: list[list[tuple[Decoder, Decoder]]] = []
        self.trained: list[tuple[Decoder, Decoder]] = []

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.passes.append([])

    def on_validation_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any, **__: Any) -> None:
        self.passes[-1].append((pl_module.trained_policy.decoder(), pl_module.trained_policy.decoder()))

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        self.trained.append((pl_module.trained_policy.decoder(), pl_module.trained_policy.decoder()))

    on_test_start = on_predict_start = on_validation_start
    on_test_batch_end = on_predict_batch_end = on_validation_batch_end


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*logging interval.*")
def test_a_pass_over_photos_lays_out_one_decoder_and_no_other_has_it():
    sampling = Sampling(group_size=4, max_new_tokens=9)
    module = Watched(PolicyConfig(tiny_backbone(), PIXELS), Format(), sampling=sampling, max_new_tokens=2)
    module.configure_model()
    module.trained_policy.weights_stay(True)  # as a pass leaves it that an error has ended
    asking = Asking()
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=2,
        val_check_interval=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[RolloutGeneration(Scripted(REPLIES)), asking],
    )
    trainer.fit(module, datamodule=Evaluated())
    trainer.validate(module, datamodule=Evaluated(), verbose=False)
    trainer.test(module, datamodule=Evaluated(), verbose=False)
    trainer.predict(module, datamodule=Evaluated())
    assert len(asking.trained) == 2
    assert all(one is not other for one, other in asking.trained)
    assert [len(found) for found in asking.passes] == [3] * 5  # twice within the fit
    by_pass = [{id(decoder) for pair in found for decoder in pair} for found in asking.passes]
    assert [len(found) for found in by_pass] == [1] * 5
    assert len(set.union(*by_pass)) == 5
    assert module.trained_policy.decoder() is not module.trained_policy.decoder()


def test_parts_are_made_by_our_strategy_alone():
    module = SFT(PolicyConfig(tiny_backbone(), PIXELS))
    module._device_mesh = SimpleNamespace()  # pyright: ignore[reportAttributeAccessIssue]
    module._trainer = SimpleNamespace(state=SimpleNamespace(fn="fit"), strategy=object())  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(UserError, match=r"trained with fgvr\.strategies\.FSDP2Strategy, got object: give"):
        module.configure_model()
