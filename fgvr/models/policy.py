"""The trained model: stock transformers, with log-probs of target tokens in and completions out.

Shape legend: R rows, T row length in tokens, N target tokens, B prompts, V vocabulary, D width, M rows of one decoding
step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fgvr.errors import UserError
from fgvr.kernels.attention import AttentionPlan, PackedAttention, Varlen, fastest_varlen
from fgvr.kernels.group_decoding import ContinuedCache, PromptCache
from fgvr.kernels.group_packing import common_prefix, groups_in_one_row, join_images
from fgvr.kernels.packing import block_causal_mask, in_one_row
from fgvr.kernels.prefix_attention import Backend, prefix_attention
from fgvr.kernels.token_logprobs import suppression, token_logprobs, token_logprobs_and_entropy
from fgvr.models.adapters import LoRA, what_is_trained
from fgvr.models.attention import plan_attention
from fgvr.models.attention_choice import VARLEN, AttentionSetting, usual_groups
from fgvr.models.backbone import Attention, Backbone
from fgvr.models.blank import blank_prompt
from fgvr.models.decoder import Decoder
from fgvr.models.outline import empty_model, prepared
from fgvr.models.processor import PixelBudget, Processor
from fgvr.models.sampling import Sampling
from fgvr.models.sharding import gather_weights, spread_weights, unsharded
from fgvr.models.start import Start
from fgvr.models.weight_names import parts_of, refuse_unreadable
from fgvr.models.writing import Page, ReadPrompts, Written, write_completions
from fgvr.types import EncodedPrompt, GroupRows, ImageFeatures, ImageInputs, PackedRows, PromptBatch


@dataclass(frozen=True)
class PolicyConfig:
    """What is trained: a backbone, its pixel budget, what of it is frozen, adapters, and how attention is computed.

    `backbone` is where weights and processor come from. Without `pixels` a run that starts from another one's
    checkpoint keeps to that one's budget, any other takes the default one. `freeze` names what is not trained: vision,
    projector, language, or weights and modules by patterns of their whole names, see `fgvr.models.weight_names`. `lora`
    has the adapters that are trained in place of the rest. `gradient_checkpointing` trades time for memory.
    `attention` is "sdpa" (torch's, under masks), "varlen" (torch's own kernel, without padding), "flash_attention_2"
    (flash-attn, without padding, in the vision tower too) or "auto": the last of these that device and precision allow.
    `prefix_attention` says how groups that share their prompt attend, see `fgvr.kernels.prefix_attention`; None takes
    what goes with `attention`, "split" with sdpa and "varlen" with the others.
    """

    backbone: Backbone
    pixels: PixelBudget | None = None
    freeze: tuple[str, ...] = ()
    lora: LoRA | None = None
    attention: AttentionSetting = "auto"
    prefix_attention: Backend | None = None
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        refuse_unreadable(self.freeze, "policy.freeze")
        if set(self.freeze) == {"vision", "projector", "language"} and self.lora is None:
            raise UserError(
                "something must be left to train, but vision, projector and language are all frozen and there is "
                "no LoRA"
            )
        if self.lora is not None and not self.lora.exclude_vision and "vision" in self.freeze:
            raise UserError(
                "the vision tower must be either frozen or given adapters: set lora.exclude_vision or unfreeze it"
            )


class Policy(nn.Module):
    """A Qwen-VL that scores packed rows and whole groups, and answers prompts.

    The model is stock; who sees whom within a row is decided by a mask or by an attention plan, and positions are
    always passed explicitly. An `empty` one lies on the meta device until `fgvr.models.rows.load_rows` fills it.
    """

    ENTRIES = ("hidden_states", "completion_logprobs", "image_features", "read", "read_on")
    """The methods besides `forward` that run weights of the model. None of them may call another, nor may `forward`:
    a policy that is sharded gathers its weights where one begins and lets them go where it ends."""

    suppression: Tensor

    def __init__(self, config: PolicyConfig, processor: Processor, empty: bool = False) -> None:
        super().__init__()
        self.config, self.processor = config, processor
        attention: Attention = "flash_attention_2" if config.attention == "flash_attention_2" else "sdpa"
        backbone = config.backbone
        model: Any = empty_model(backbone.config(), attention) if empty else backbone.build(attention)
        if (tokens := len(processor.tokenizer)) > (known := len(model.lm_head.weight)):
            raise UserError(
                f"the model must know every token of its tokenizer, but it has {known:,} of {tokens:,}: some were "
                "added (added_tokens), or the tokenizer is another model's; put the model's own files back"
            )
        model.generation_config = processor.generation_config()  # the folder's own has no say in what is said
        plan_attention(model.model.language_model)
        self.prefix_backend: Backend = config.prefix_attention or usual_groups(config.attention)
        self.packs_by: Literal["mask", "varlen"] = "varlen" if config.attention in VARLEN else "mask"
        self.varlen: Varlen = VARLEN.get(config.attention) or fastest_varlen()
        barred = suppression(processor.vision_token_ids, len(model.lm_head.weight))
        self.register_buffer("suppression", barred, persistent=False)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        self.model: Any = prepared(model, config.freeze, config.lora)
        self._decoders: dict[torch.dtype | None, Decoder] | None = None  # by precision, while the weights stay
        self._start = Start()
        self.train()  # a loaded model comes in evaluation mode, in which nothing is checkpointed

    @property
    def base(self) -> Any:
        """The transformers model itself, with any adapters injected into its layers."""
        return self.model.get_base_model() if self.config.lora is not None else self.model

    def forward(self, rows: PackedRows) -> Float[Tensor, " N"]:
        """Log-probability in nats of every target token, each predicted by the token before it in its own sequence."""
        rows = in_one_row(rows) if self.packs_by == "varlen" else rows
        hidden = self._hidden_states(rows).flatten(0, 1)  # [R*T, D]
        return token_logprobs(hidden.index_select(0, rows.target_index), self.base.lm_head.weight, rows.target_ids)

    def hidden_states(self, rows: PackedRows) -> Float[Tensor, "R T D"]:
        """The language model's last hidden states of packed rows."""
        return self._hidden_states(rows)

    def _hidden_states(self, rows: PackedRows) -> Float[Tensor, "R T D"]:
        embedded = self._embed(rows.input_ids, rows.images, None)
        if self.packs_by == "varlen":
            return self._language(*embedded, rows.positions[1:], PackedAttention(rows.segments, self.varlen))
        return self._language(*embedded, rows.positions[1:], None, block_causal_mask(rows.segments))

    def completion_logprobs(
        self, rows: GroupRows, temperature: float = 1.0
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """Log-prob of every completion token and the entropy it was drawn at, in nats, with each prompt computed once.

        Both are of the distribution that is sampled: at this temperature and without vision tokens.
        """
        rows = groups_in_one_row(rows) if self.prefix_backend == "varlen" else rows
        embedded = self._embed(rows.input_ids, rows.images, rows.features)
        plan = prefix_attention(rows.segments, self.prefix_backend, self.varlen)
        hidden = self._language(*embedded, rows.positions, plan).flatten(0, 1)
        # not hidden[...]: its backward adds up repeated rows in an order that threads decide
        hidden = hidden.index_select(0, rows.target_index)
        head = self.base.lm_head.weight
        return token_logprobs_and_entropy(hidden, head, rows.target_ids, self.suppression, temperature)

    def image_features(self, images: ImageInputs) -> ImageFeatures:
        """What tower and projector make of the images, in their order."""
        return self._image_features(images)

    def _image_features(self, images: ImageInputs) -> ImageFeatures:
        output = self.base.model.get_image_features(self.processor.pixel_values(images), images.grid_thw)
        levels = getattr(output, "deepstack_features", None)
        deepstack = torch.stack([_of_all_images(level) for level in levels]) if levels else None
        return ImageFeatures(_of_all_images(output.pooler_output), deepstack)

    @property
    def fixed_features(self) -> bool:
        """True when nothing of tower and projector is trained, so that features hold from sampling to the update."""
        return not any(parameter.requires_grad for parameter in self.base.model.visual.parameters())

    def adapters_off(self) -> AbstractContextManager[None]:
        """Within it this is the model without its adapters. Raises ValueError when it has none."""
        if self.config.lora is None:
            raise ValueError("only a policy with LoRA holds its reference: keep a frozen copy of this one")
        return self.model.disable_adapter()

    def keep_start(self) -> None:
        """Says that the run begins with the weights as they are: those trained in full beside adapters are copied."""
        self._start.keep(self)

    @contextmanager
    def at_start(self) -> Iterator[None]:
        """Within it this is the policy that the run began with: without adapters, and as `keep_start` found the rest.

        Every process holds all weights meanwhile. A collective call. Raises ValueError where the start is not known.
        """
        with self._start.in_place(self), unsharded(self), self.adapters_off():
            yield

    def decoder(self) -> Decoder:
        """The language model as it is now, laid out for `write`; under autocast in its precision."""
        if self._decoders is None:
            return Decoder(self.base, self.suppression)
        kind = self.suppression.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        if precision not in self._decoders:
            self._decoders[precision] = Decoder(self.base, self.suppression)
        return self._decoders[precision]

    def weights_stay(self, stay: bool) -> None:
        """Says that no weight changes until the opposite is said: meanwhile all who ask share one decoder.

        Of a sharded policy every process holds all weights meanwhile: all must say it alike.
        """
        self._decoders = {} if stay else None
        (gather_weights if stay else spread_weights)(self)

    @torch.no_grad()
    def write(
        self,
        decoder: Decoder,
        prompts: Sequence[EncodedPrompt],
        features: ImageFeatures,
        sampling: Sampling,
        seeds: Sequence[int] | None = None,
    ) -> Iterator[tuple[int, list[Written]]]:
        """Each prompt's number with its completions, in the order in which they are finished.

        They are drawn from the distribution that training sees, each from random numbers of its prompt's seed; without
        seeds the likeliest token is taken each time. Vision tokens are never written.
        """
        yield from self.write_after(decoder, self.read(prompts, features), sampling, seeds)

    @torch.no_grad()
    def write_after(
        self, decoder: Decoder, read: ReadPrompts, sampling: Sampling, seeds: Sequence[int] | None = None
    ) -> Iterator[tuple[int, list[Written]]]:
        """The same after prompts that have been read, whose keys and values it uses up."""
        chances = None
        if seeds is not None:
            shape = (sampling.group_size, sampling.max_new_tokens)
            chances = torch.stack([_chances(seed, shape) for seed in seeds]).to(decoder.device)
        page = Page(decoder, read, sampling, chances)
        yield from write_completions(page, torch.tensor(self.processor.eos_token_ids, device=decoder.device))

    @torch.no_grad()
    def read(self, prompts: Sequence[EncodedPrompt], features: ImageFeatures) -> ReadPrompts:
        """Reads each prompt once, with the features of all their images."""
        own = [len(prompt.input_ids) for prompt in prompts]
        return self._read(prompts, own, features, PromptCache(torch.tensor(own, device=self.suppression.device)))

    @torch.no_grad()
    def read_on(self, before: ReadPrompts, of: Sequence[int], asked: Sequence[EncodedPrompt]) -> ReadPrompts | None:
        """Reads other prompts about the same images, each only from where it differs from the one before it.

        `of` says which of the prompts `before` that is. None where an image stands behind that place.
        """
        shared = [
            min(common_prefix(before.prompts[number], other), len(other.input_ids) - 1)  # the last tells what follows
            for number, other in zip(of, asked, strict=True)
        ]
        rest = [one.input_ids[upto:] for one, upto in zip(asked, shared, strict=True)]
        if any((ids == self.processor.image_token).any() for ids in rest):
            return None
        own = [len(ids) for ids in rest]
        return self._read(asked, own, None, ContinuedCache(before.cache, of, shared, own))

    def _read(
        self, prompts: Sequence[EncodedPrompt], own: Sequence[int], features: ImageFeatures | None, cache: PromptCache
    ) -> ReadPrompts:
        """Reads the last `own` tokens of each prompt, keys and values into the cache."""
        shape, device = (len(prompts), max(own)), cache.lengths.device
        input_ids = torch.full(shape, self.processor.padding_token, device=device)
        positions = torch.zeros(3, *shape, dtype=torch.long, device=device)
        for row, (prompt, count) in enumerate(zip(prompts, own, strict=True)):
            input_ids[row, :count], positions[:, row, :count] = prompt.input_ids[-count:], prompt.positions[:, -count:]
        hidden = self._language(*self._embed(input_ids, None, features), positions, cache)
        last = torch.tensor(own, device=device) - 1
        after = torch.stack([prompt.positions.max() + 1 for prompt in prompts])
        return ReadPrompts(prompts, cache, hidden[torch.arange(len(prompts), device=device), last], after)

    def _embed(
        self, input_ids: Tensor, images: ImageInputs | None, features: ImageFeatures | None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Embeddings with the image features in their places, and what Qwen3-VL adds to its first layers."""
        embeds = self.base.model.language_model.embed_tokens(input_ids)
        if features is None and images is not None:
            features = self._image_features(images)
        if features is None:
            return embeds + self._unseen() if torch.is_grad_enabled() else embeds, {}
        places = input_ids == self.processor.image_token
        if int(places.sum()) != len(features.tokens):
            raise ValueError(
                f"the prompts must hold as many image tokens as the tower gives features, got {int(places.sum())} "
                f"and {len(features.tokens)}: images and prompts do not belong together"
            )
        embeds = embeds.masked_scatter(places[..., None], features.tokens.to(embeds.dtype))
        if features.deepstack is None:
            return embeds, {}
        return embeds, {"visual_pos_masks": places, "deepstack_visual_embeds": list(features.deepstack)}

    def _unseen(self) -> Tensor:
        """0, by way of a grey image through the tower, which rows of other processes may need at the same time."""
        features = self._image_features(blank_prompt(self.processor).images.to(self.suppression.device))
        levels = () if features.deepstack is None else features.deepstack
        return sum((level.sum() for level in levels), features.tokens.sum()) * 0

    def _language(
        self,
        embeds: Tensor,
        extra: dict[str, Any],
        positions: Tensor,
        plan: AttentionPlan | None,
        mask: Tensor | None = None,
    ) -> Tensor:
        output = self.base.model.language_model(
            inputs_embeds=embeds,
            position_ids=positions,
            attention_mask=embeds.new_empty(0, 0, 0, 0) if mask is None else mask,  # none is to be made: the plan knows
            use_cache=False,
            plan=plan,
            **extra,
        )
        return output.last_hidden_state

    def generate(self, batch: PromptBatch, max_new_tokens: int) -> list[list[int]]:
        """Greedy completions, ids only, end token included when it was reached; vision tokens are never written."""
        return self.answers([batch.prompt(row) for row in range(len(batch.examples))], max_new_tokens)

    @torch.no_grad()
    def answers(self, prompts: Sequence[EncodedPrompt], max_new_tokens: int) -> list[list[int]]:
        """The same for prompts that are in no batch."""
        if not prompts:
            return []
        greedy = Sampling(group_size=1, max_new_tokens=max_new_tokens)
        was_training = self.training
        self.eval()
        try:
            features = self.image_features(join_images([prompt.images for prompt in prompts]))
            found = dict(self.write(self.decoder(), prompts, features, greedy))
        finally:
            self.train(was_training)
        return [found[row][0].ids.tolist() for row in range(len(prompts))]

    def what_is_trained(self) -> str:
        """Names, counts and share of the weights that are trained, in one line."""
        return what_is_trained(self.model, self.config.lora, parts_of(self.base))

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad)


def _of_all_images(features: Tensor | Sequence[Tensor]) -> Tensor:
    """Features [F D], which transformers gives image by image or, a deepstack level up to 5.17, in one piece."""
    return features if isinstance(features, Tensor) else torch.cat(list(features))


def _chances(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, device="cpu", generator=torch.Generator().manual_seed(seed))
