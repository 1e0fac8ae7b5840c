"""What an audit is run on in tests: configs/eval/aviary.yaml in small, photos, and policies that follow a rule."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from conftest import NAMES, photo, tiny_policy
from PIL import Image
from torch import Tensor
from trained_runs import noisy, save

from fgvr.models import Policy, PolicyConfig
from fgvr.modules import SFT
from fgvr.shards.packing import pack
from fgvr.sources.image_folder import ImageFolder
from fgvr.types import EncodedPrompt

CONFIG = Path(__file__).parents[1] / "configs" / "eval" / "aviary.yaml"
COLOURS = {"Red": (255, 0, 0), "Lime": (0, 255, 0), "Blue": (0, 0, 255), "Pink": (255, 0, 255), "Cyan": (0, 255, 255)}


def config(folder: Path, name: str, batch: int, module: str = "fgvr.modules.SFT", **audit: Any) -> Path:
    """configs/eval/aviary.yaml, of another run, on other photos."""
    values = yaml.safe_load(CONFIG.read_text())
    values["run"]["dir"] = str(folder / name)
    values["model"]["class_path"] = module
    policy = values["model"]["init_args"]["policy"]
    policy["backbone"]["init_args"]["run"] = str(folder / "trained")
    values["model"]["init_args"]["max_new_tokens"] = 6
    data = values["data"]["init_args"]
    data["train"] = [{"path": str(folder / "shards")}]
    data |= {"eval_batch_size": batch, "workers": 0}
    for one in values["trainer"]["callbacks"]:
        if one["class_path"].endswith("ProtocolAudit"):
            one["init_args"] |= audit
    values["trainer"] |= {"enable_progress_bar": False}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def random_photos(folder: Path) -> None:
    """Photos of four classes, six each, and a tiny policy's run."""
    for number, name in enumerate(NAMES):
        for index in range(6):
            _keep(photo(56, 56, seed=10 * number + index), folder, name, index, 2)
    _packed(folder)


def coloured_photos(folder: Path) -> None:
    """Photos of five classes, each of one colour, eight to ask about and one to train on; and a tiny policy's run."""
    for name, colour in COLOURS.items():
        for index in range(9):
            _keep(Image.new("RGB", (56, 56), colour), folder, name, index, 8)
    _packed(folder)


def _keep(image: Image.Image, folder: Path, name: str, index: int, asked_about: int) -> None:
    file = folder / "labelled" / ("val" if index < asked_about else "train") / name / f"{index}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    image.putpixel((0, 0), (index, index, index))  # no two are the same file
    image.save(file)


def _packed(folder: Path) -> None:
    pack(ImageFolder(folder / "labelled"), folder / "shards")
    save(noisy(tiny_policy()), folder / "trained")


class FirstLetter(Policy):
    """Picks the first option, whatever is shown."""

    def answers(self, prompts: Sequence[EncodedPrompt], max_new_tokens: int) -> list[list[int]]:
        return [self.processor.encode_target("<answer>A</answer>") for _ in prompts]


class ByColour(Policy):
    """Picks the option that the photo's colour stands for; of a photo without one the second."""

    def answers(self, prompts: Sequence[EncodedPrompt], max_new_tokens: int) -> list[list[int]]:
        return [self.processor.encode_target(f"<answer>{self._letter(prompt)}</answer>") for prompt in prompts]

    def _letter(self, prompt: EncodedPrompt) -> str:
        told = self.processor.decode(prompt.input_ids[prompt.input_ids != self.processor.image_token].tolist())
        letters = {name: letter for letter, name in re.findall(r"([A-Z])\) (\w+)", told)}
        patches = prompt.images.patches.float()
        shown = patches.view(len(patches), 3, -1).mean((0, 2))
        return letters.get(_nearest(shown), "B") if float(shown.std()) > 20 else "B"


def _nearest(shown: Tensor) -> str:
    return min(COLOURS, key=lambda name: float((torch.tensor(COLOURS[name]) - shown).abs().sum()))


class FirstLetterRun(SFT):
    def built(self, config: PolicyConfig) -> Policy:
        return FirstLetter(config, self.processor)


class ByColourRun(SFT):
    def built(self, config: PolicyConfig) -> Policy:
        return ByColour(config, self.processor)
