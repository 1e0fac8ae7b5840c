"""What a server can do is found out by trying, on real servers that obey, ignore and refuse."""

from collections.abc import Iterator

import pytest
from judge_server import JudgeServer, Script

from fgvr.errors import UserError
from fgvr.judges.served.chat import Chat
from fgvr.judges.served.probe import Constrain, probe
from fgvr.judges.served.prompt import Decoding
from fgvr.judges.served.server import Server


@pytest.fixture(scope="module")
def served() -> Iterator[JudgeServer]:
    with JudgeServer() as server:
        yield server


def probed(
    served: JudgeServer,
    script: Script,
    constrain: Constrain = "auto",
    model: str = "judge",
    wished: Decoding = Decoding(),  # noqa: B008 - frozen
) -> Decoding:
    served.behaviour.script = script
    chat = Chat(Server(url=served.url, timeout=1.0, attempts=2, patience=1.0), model, lambda name: None)
    try:
        return chat.run(probe, chat, model, constrain, wished).result(30)
    finally:
        chat.close()


FIELDS = ("structured_outputs", "response_format", "chat_template_kwargs", "logprobs")


@pytest.mark.parametrize(
    ("script", "found"),
    [
        (Script(), Decoding("structured_outputs", True, 20)),
        (Script(refuses=("logprobs",)), Decoding("structured_outputs", True, 0)),
        (Script(refuses=("chat_template_kwargs",)), Decoding("structured_outputs", False, 20)),
        (Script(obeys=("json_schema",)), Decoding("json_schema", True, 0)),  # structured_outputs ignored in silence
        (Script(refuses=("structured_outputs",)), Decoding("json_schema", True, 0)),
        (Script(obeys=()), Decoding("none", True, 0)),
        (Script(refuses=FIELDS), Decoding("none", False, 0)),
        (Script(obeys=(), refuses=("response_format",)), Decoding("none", True, 0)),
        (Script(lists_models=False), Decoding("structured_outputs", True, 20)),
        (Script(refuses=("max_tokens",)), Decoding("structured_outputs", True, 20, limit="max_completion_tokens")),
    ],
)
def test_what_a_server_can_do(served: JudgeServer, script: Script, found: Decoding):
    assert probed(served, script) == found


@pytest.mark.parametrize("refuses", [("temperature",), ("temperature", "max_tokens"), ("seed",)])
def test_a_cloud_that_takes_no_temperature_or_seed(served: JudgeServer, refuses: tuple[str, ...]):
    """Dropping it unasked would make verdicts drawn by lot of fixed ones."""
    wished = Decoding(temperature=0.0, seed=3)
    with pytest.raises(UserError, match=r"must take judge\.temperature 0.0 and judge.seed 3, but .*set those to null"):
        probed(served, Script(refuses=refuses), wished=wished)
    without = Decoding(temperature=None, seed=None)
    assert probed(served, Script(refuses=refuses), wished=without).temperature is None


@pytest.mark.parametrize("kind", ["structured_outputs", "json_schema", "none"])
def test_a_constraint_may_be_asked_for(served: JudgeServer, kind: Constrain):
    assert probed(served, Script(), kind).constraint == kind


@pytest.mark.parametrize("script", [Script(obeys=()), Script(refuses=FIELDS)])
@pytest.mark.parametrize("kind", ["structured_outputs", "json_schema"])
def test_one_that_is_ignored_is_refused(served: JudgeServer, script: Script, kind: Constrain):
    with pytest.raises(UserError, match=f"judge.constrain is {kind}, but the judge's server .* ignores it"):
        probed(served, script, kind)


def test_a_log_line_says_which(served: JudgeServer, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    probed(served, Script())
    probed(served, Script(obeys=()))
    first, second = (record.message for record in caplog.records if record.name == "fgvr.judges.served.probe")
    assert "holds the model to the six verdicts (structured_outputs)" in first
    assert "leaves the model free" in second


def test_a_model_that_is_not_served_is_named_with_those_that_are(served: JudgeServer):
    with pytest.raises(UserError, match=r"must be one that http://.*/v1 serves, got 'judge': it serves 'other'"):
        probed(served, Script(model="other"))
    with pytest.raises(UserError, match=r"must serve 'judge' at .*does not exist"):
        probed(served, Script(model="other", lists_models=False))


def test_a_key_that_is_not_taken(served: JudgeServer):
    with pytest.raises(UserError, match="must take the key of the environment variable FGVR_JUDGE_KEY"):
        probed(served, Script(key="wanted"))


def test_a_server_that_is_away(served: JudgeServer):
    with JudgeServer() as gone:
        url = gone.url
    chat = Chat(Server(url=url, patience=0.5), "judge", lambda name: None)
    with pytest.raises(UserError, match=f"the judge's server {url} must answer, but: nothing good was heard for 0.5 s"):
        chat.run(probe, chat, "judge", "auto", Decoding()).result(30)
    chat.close()


def test_it_waits_for_a_server_that_starts():
    server = JudgeServer()
    server.start()
    server.kill()
    chat = Chat(Server(url=server.url, patience=30.0), "judge", lambda name: None)
    future = chat.run(probe, chat, "judge", "auto", Decoding())
    server.start()
    assert future.result(30).constraint == "structured_outputs"
    chat.close()
    server.kill()
