"""What a model on the hub is made of, what the cache has of it, and fetching it: from a hub on this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from hub_server import COMMIT, Hub, serving

from fgvr.errors import UserError
from fgvr.models.hub_files import fetch, look_up

READ = ["README.md", "chat_template.jinja", "config.json", "merges.txt", "model-1.safetensors", "tokenizer.json"]
OTHERS = ["pytorch_model.bin", "consolidated.safetensors", ".gitattributes", "figure.png"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = tmp_path / "served"
    folder.mkdir()
    for number, name in enumerate([*READ, *OTHERS]):
        (folder / name).write_bytes(b"x" * (10 + number))
    with serving({"org/tiny": folder}, gated=("org/closed",)) as found:
        template = found.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", found.url)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield found


def test_what_a_run_reads_is_fetched_once_and_nothing_else(hub: Hub):
    before = look_up("org/tiny")
    assert (before.commit, before.asked) == (COMMIT, True)
    assert [file.name for file in before.missing] == READ
    assert sum(file.size or 0 for file in before.missing) == 10 + 11 + 12 + 13 + 14 + 15
    assert not fetch(before).missing
    assert sorted(hub.asked) == READ
    again = look_up("org/tiny")
    assert not again.missing
    fetch(again)
    assert sorted(hub.asked) == READ


def test_without_the_hub_the_cache_says_what_it_has(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    (hub.models["org/tiny"] / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    )
    fetch(look_up("org/tiny"))
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    kept = look_up("org/tiny")
    assert (kept.asked, kept.commit) == (False, COMMIT)
    assert [file.name for file in kept.missing] == ["model-2.safetensors"]  # which the index names, and nobody has
    assert [file.name for file in look_up("org/other").missing] == ["config.json"]


@pytest.mark.parametrize(
    ("name", "said"),
    [("org/none", "under its name, but of 'org/none' it says: "), ("org/closed", "set HF_TOKEN")],
)
def test_what_the_hub_does_not_give_is_a_sentence(hub: Hub, name: str, said: str):
    with pytest.raises(UserError, match=said):
        look_up(name)
