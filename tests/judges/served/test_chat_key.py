"""The key goes to the server and nowhere else, whatever the server does with it."""

import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from asked_judges import KEY
from chatting import ask, body, opened, strict
from judge_server import JudgeServer

from fgvr.errors import UserError
from fgvr.judges.served.chat import Chat
from fgvr.judges.served.patience import Unanswered
from fgvr.judges.served.replies import content
from fgvr.judges.served.server import Server


class TestKey:
    """A planted key, and a server that shouts it back."""

    @pytest.fixture
    def chat(self, server: JudgeServer, tmp_path: Path) -> Iterator[Chat]:
        server.script.key = KEY
        (tmp_path / "key").write_text(KEY)
        yield from opened(Server(url=server.url, key_file=tmp_path / "key", timeout=1.0, attempts=2, patience=2.0))

    def test_it_is_sent(self, chat: Chat, server: JudgeServer):
        ask(chat)
        assert server.behaviour.last["headers"]["Authorization"] == f"Bearer {KEY}"

    @pytest.mark.parametrize(
        "fault", ["echo", f"says:{KEY}\x1b[2J", f"raw:{KEY} {KEY}", f"400:{KEY}", f"401:your {KEY}"]
    )
    def test_it_is_not_shown(self, chat: Chat, server: JudgeServer, fault: str, caplog: pytest.LogCaptureFixture):
        caplog.set_level("DEBUG")
        server.script.on = {"Wren": fault}
        read = content if not fault.startswith("says:") else strict
        with pytest.raises((Unanswered, UserError)) as caught:
            chat.run(chat.ask, partial(body, "Wren"), read).result(30)
        error: BaseException | None = caught.value
        assert "[key]" in str(error)
        while error is not None:
            assert KEY not in repr(error) + str(vars(error))
            assert "\x1b" not in str(error)
            error = error.__cause__ or error.__context__
        assert KEY not in caplog.text
        assert KEY not in repr(chat) + repr(chat.server) + repr(pickle.dumps(chat.server))

    def test_a_wrong_key_is_a_sentence(self, chat: Chat, server: JudgeServer):
        server.script.key = "another"
        with pytest.raises(
            UserError, match=r"must take the key of .*/key, but it answers status 401 '.*who is Bearer \[key\]"
        ):
            ask(chat)
