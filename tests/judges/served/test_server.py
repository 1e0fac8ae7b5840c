from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fgvr.errors import UserError
from fgvr.judges.served.server import Server

KEY = "sk-planted-0123456789abcdef"


@pytest.mark.parametrize("url", ["http://node:8001/v1", "https://api.example.com/v1/", "http://[::1]:80"])
def test_base(url: str):
    assert Server(url=url).base() == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@node/v1",
        "http://hunter2@node/v1",
        "http://node/v1?api_key=hunter2",
        "http://node/v1#hunter2",
    ],
)
def test_no_secret_in_the_url(url: str, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="without user, password, query or fragment") as caught:
        Server(url=url)
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("THE_URL", url)
    with pytest.raises(UserError, match="THE_URL must be a base url") as caught:
        Server(url_env="THE_URL").base()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["node:8001", "ftp://node/v1", "file:///etc/passwd", "http://", "http://node:port/v1", "http://a b/v1",
            "http://node:99999/", "http://[node/v1", "http://node/v1\n", "http://node:0/"]
)  # fmt: skip
def test_what_is_no_url_is_refused(url: str):
    with pytest.raises(UserError, match=r"server.url must be a base url such as http://node:8001/v1"):
        Server(url=url)


def test_the_url_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("FGVR_JUDGE_URL", raising=False)
    server = Server()
    with pytest.raises(UserError, match=r"must have an address, but server.url is empty .*FGVR_JUDGE_URL"):
        server.base()
    monkeypatch.setenv("FGVR_JUDGE_URL", "http://n7:1/v1")
    assert server.base() == "http://n7:1/v1"
    assert "n7" not in repr(server)


@pytest.mark.parametrize(
    "wrong",
    [{"concurrency": 0}, {"attempts": 0}, {"timeout": 0.0}, {"timeout": float("inf")}, {"timeout": float("nan")},
     {"patience": -1.0}, {"patience": float("nan")}],
)  # fmt: skip
def test_numbers_out_of_range(wrong: dict[str, Any]):
    with pytest.raises(UserError, match=f"server.{next(iter(wrong))}"):
        Server(**wrong)


def test_the_key_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FGVR_JUDGE_KEY", " from-environment\n")
    assert Server().key() == "from-environment"
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert Server(key_file=tmp_path / "key").key() == KEY
    monkeypatch.delenv("FGVR_JUDGE_KEY")
    assert Server().key() == ""


@pytest.mark.parametrize("text", ["two words", "line\nline", "ключ", "bell\x07"])
def test_an_odd_key_is_refused_unseen(text: str, tmp_path: Path):
    (tmp_path / "key").write_text(text, "utf-8")
    with pytest.raises(UserError, match=r"must be one word of ASCII characters, but what .*key holds is not") as caught:
        Server(key_file=tmp_path / "key").key()
    assert text not in str(caught.value)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_bytes(b"\xff")])
def test_a_key_file_that_cannot_be_read(make: Callable[[Path], object], tmp_path: Path):
    make(tmp_path / "key")
    with pytest.raises(UserError, match=r"server.key_file must be a text file that can be read"):
        Server(key_file=tmp_path / "key").key()
