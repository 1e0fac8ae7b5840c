"""Texts as vectors: by any encoder in a folder, or by the embeddings of a policy's own tokens."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Embedding
from torch.nn.functional import embedding
from transformers import AutoConfig, AutoModel, AutoTokenizer

from fgvr.errors import UserError
from fgvr.models.backbone import FAMILIES as POLICIES
from fgvr.models.backbone import Backbone, Pretrained
from fgvr.models.image_tower import FAMILIES, UNREADABLE
from fgvr.models.outline import empty_model
from fgvr.models.policy import Policy
from fgvr.models.text_tower import TextTower

TextEncoder = Callable[[Sequence[str]], Float[Tensor, "N D"]]
POOLS = ("cls", "mean", "max", "lasttoken")  # as sentence-transformers calls them
log = logging.getLogger(__name__)


class PooledTexts:
    """A transformers encoder of texts in `folder` (BERT and its kin), in float32, on the GPU where there is one.

    The row of a text is pooled of its tokens' last hidden states as sentence-transformers would, where it has saved the
    folder: their mean, the first, the last or the largest; their mean elsewhere. A text is cut where that would cut
    it, or the model's positions end; the first such text is told of. Raises UserError for a folder that cannot be read,
    and for one that does more than that.
    """

    def __init__(self, folder: Path) -> None:
        place, self.pool = _saved(folder)
        self.folder, self._told = folder, False
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(place, local_files_only=True)
            model = AutoModel.from_pretrained(place, local_files_only=True, use_safetensors=True, dtype=torch.float32)
        except UNREADABLE as error:
            raise _none(folder, error) from error
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.eval().to(self.device)
        self.length = min(_positions(model), int(self.tokenizer.model_max_length), _most_tokens(place))

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        """One row per text, on the CPU, not normalised; what is longer than the encoder reads is cut."""
        written = [text.strip() or self.tokenizer.unk_token or "." for text in texts]  # a text of nothing has no mean
        inputs = self.tokenizer(written, padding=True, truncation=True, max_length=self.length, return_tensors="pt")
        if not self._told and inputs["input_ids"].shape[1] >= self.length:
            longest = max(map(len, self.tokenizer(written, verbose=False)["input_ids"]))
            if longest > self.length:
                self._told = True
                log.warning("%s reads %d tokens of a text: one has %d and is cut", self.folder, self.length, longest)
        inputs = inputs.to(self.device)
        hidden = self.model(**inputs).last_hidden_state
        return pooled(hidden, inputs["attention_mask"], self.pool).float().cpu()


def _positions(model: Any) -> int:
    """How many tokens the model has places for: those of RoBERTa and its kin are counted from behind the padding's."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return int(getattr(model.config, "max_position_embeddings", None) or 512)


def _most_tokens(place: Path) -> int:
    """Of one text, as sentence-transformers has saved it. Raises UserError for a file that cannot be read."""
    file = place / "sentence_bert_config.json"
    try:
        most = json.loads(file.read_text(encoding="utf-8")).get("max_seq_length") if file.is_file() else None
        return int(most) if most else sys.maxsize
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise _none(place, error) from error


def pooled(hidden: Float[Tensor, "N T D"], mask: Tensor, how: str) -> Float[Tensor, "N D"]:
    """One row of each text's hidden states, of those alone that `mask` [N, T] has 1 for; `how` is one of POOLS."""
    own = mask[..., None].bool()
    if how == "mean":
        return (hidden * own).sum(1) / own.sum(1).clamp(min=1)
    if how == "max":
        return hidden.masked_fill(~own, -torch.inf).amax(1)
    places = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    far = mask.shape[1]
    found = places.masked_fill(mask == 0, far).amin(1) if how == "cls" else places.masked_fill(mask == 0, -1).amax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), found.clamp(0, far - 1)]


def text_encoder(folder: Path, name: str = "text_encoder") -> TextEncoder:
    """What encodes texts by the folder's model: the text side of a CLIP or SigLIP, an encoder that pools its tokens, or
    the embeddings of a Qwen-VL's own. `name` is the setting that an error speaks of.

    Raises UserError for a folder that is not there or cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{name} must be a folder with an encoder of texts, but there is no folder {folder}")
    try:
        kind = AutoConfig.from_pretrained(_saved(folder)[0], local_files_only=True).model_type
        if kind in POLICIES:
            return own_embeddings(Pretrained(str(folder)))
        return TextTower(folder) if kind in FAMILIES else PooledTexts(folder)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except UNREADABLE as error:
        raise UserError(f"{name}: {_none(folder, error)}") from error


def own_text_encoder(policy: Policy) -> TextEncoder:
    """The mean of the embeddings that the policy's language model reads of a text's tokens. Knows no word order."""
    table: Any = policy.base.get_input_embeddings()
    return _mean_over_tokens(policy.processor.tokenizer, lambda ids: table(ids.to(next(table.parameters()).device)))


def own_embeddings(backbone: Backbone) -> TextEncoder:
    """As `own_text_encoder`, of weights of which no more than the embeddings are read, where they can be read alone."""
    tokenizer, rows = backbone.processor(None).tokenizer, backbone.rows()
    if rows is None:
        whole: Any = backbone.build("sdpa")
        table = whole.get_input_embeddings().weight.detach()
    else:
        empty: Any = empty_model(backbone.config(), "sdpa")
        own = empty.get_input_embeddings().weight
        name = next(name for name, weight in empty.named_parameters() if weight is own)
        table = rows.of(empty)[name].read().float()
    return _mean_over_tokens(tokenizer, lambda ids: embedding(ids, table))


def _mean_over_tokens(tokenizer: Any, embed: Callable[[Tensor], Tensor]) -> TextEncoder:
    @torch.no_grad()
    def encode(texts: Sequence[str]) -> Tensor:
        tokens = [tokenizer.encode(text or " ", add_special_tokens=False) for text in texts]
        return torch.stack([embed(torch.tensor(ids)).float().mean(0).cpu() for ids in tokens])

    return encode


def _saved(folder: Path) -> tuple[Path, str]:
    """Where in the folder the transformers model is, and how its tokens are pooled, as sentence-transformers saves it.

    Raises UserError for other modules than these, which a text would have to go through too.
    """
    listed = folder / "modules.json"
    if not listed.is_file():
        return folder, "mean"
    try:
        modules = json.loads(listed.read_text(encoding="utf-8"))
        kinds = [str(one["type"]).rpartition(".")[2] for one in modules]
        if kinds[0] != "Transformer" or set(kinds[1:]) - {"Pooling", "Normalize"}:
            raise UserError(
                f"an encoder of texts must be a transformer whose tokens are pooled, but {folder} has "
                f"{', '.join(kinds)}"
            )
        settings = [
            json.loads((folder / one["path"] / "config.json").read_text(encoding="utf-8"))
            for one, kind in zip(modules, kinds, strict=True)
            if kind == "Pooling"
        ]
        pools = [_pool_of(one) for one in settings] or ["mean"]
        place = folder / modules[0]["path"]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        if isinstance(error, UserError):
            raise
        raise _none(folder, error) from error
    if pools not in [[name] for name in POOLS]:
        raise UserError(f"an encoder of texts must pool by one of {', '.join(POOLS)}, but {folder} does by {pools[0]}")
    return place, pools[0]


def _pool_of(settings: dict[str, Any]) -> str:
    """Newer versions name the mode; older ones have a flag for each."""
    if "pooling_mode" in settings:
        return str(settings["pooling_mode"])
    flags = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "max": "pooling_mode_max_tokens"}
    flags |= {"lasttoken": "pooling_mode_lasttoken"}
    chosen = [key for key, on in settings.items() if key.startswith("pooling_mode") and on is True]
    return next((name for name, flag in flags.items() if chosen == [flag]), " and ".join(chosen) or "nothing")


def _none(folder: Path, error: Exception) -> UserError:
    return UserError(f"a folder with an encoder of texts is needed, {folder} is none: {error}")
