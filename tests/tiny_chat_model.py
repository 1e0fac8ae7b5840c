"""A chat model of 200,000 random weights, with a tokenizer and a chat template of its own, as a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
TEMPLATE = (
    "{% for message in messages %}" + START + "{{ message.role }}\n{{ message.content }}" + END + "\n{% endfor %}"
    "{% if add_generation_prompt %}" + START + "assistant\n{% endif %}"
)
STEADY = 12.0  # of every token's embedding in its first channel, where the rest is about 1


def write_tiny_chat_model(folder: Path, corpus: str, leanings: dict[str, float] | None = None, seed: int = 0) -> None:
    """Writes config, weights and tokenizer as transformers saves them.

    The byte-level tokens are those that are frequent in `corpus`. `leanings` raises by so many nats the logits of all
    tokens with which a text begins, wherever the model stands: left free, it then babbles that beginning for ever.
    """
    tokenizer = _tokenizer(corpus)
    model = _random_model(len(tokenizer), seed)
    with torch.no_grad():
        _steady_channel(model)
        for text, nats in (leanings or {}).items():
            model.lm_head.weight[_beginnings(tokenizer, text), 0] += nats / _steady_value(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer(corpus: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1024, special_tokens=[PAD, START, END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus.splitlines(keepends=True), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)
    fast.chat_template = TEMPLATE
    return fast


def _random_model(tokens: int, seed: int) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=tokens,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.1,
    )
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(config).eval()


def _steady_channel(model: Qwen2ForCausalLM) -> None:
    """Gives the last hidden state a first channel that is the same wherever the model stands."""
    model.model.embed_tokens.weight[:, 0] = STEADY
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight[0] = 0  # pyright: ignore[reportIndexIssue, reportAttributeAccessIssue]
        layer.mlp.down_proj.weight[0] = 0  # pyright: ignore[reportIndexIssue, reportAttributeAccessIssue]
    model.lm_head.weight[:, 0] = 0


def _steady_value(model: Qwen2ForCausalLM) -> float:
    """The first channel's value after the last norm, measured."""
    ids = torch.arange(3, 67)[None]
    hidden = model.model(input_ids=ids).last_hidden_state[0, :, 0]
    assert hidden.std() < 0.05 * hidden.mean()
    return float(hidden.mean())


def _beginnings(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    vocabulary: Iterable[tuple[str, int]] = tokenizer.get_vocab().items()
    return [number for token, number in vocabulary if text.replace(" ", "Ġ").startswith(token)]
