"""The transport against a real server that misbehaves: what is asked again, what is given up, what stops everything."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest
from chatting import ask, body, opened, strict
from judge_server import JudgeServer, right

from fgvr.errors import UserError
from fgvr.judges.served.chat import Chat
from fgvr.judges.served.line import _seconds
from fgvr.judges.served.patience import Unanswered
from fgvr.judges.served.replies import content
from fgvr.judges.served.server import Server


@pytest.fixture
def chat(server: JudgeServer) -> Iterator[Chat]:
    yield from opened(Server(url=server.url, timeout=0.5, attempts=3, patience=2.0))


def test_a_good_reply_is_read(chat: Chat, server: JudgeServer):
    server.script.says = "less specific"
    assert ask(chat) == "less specific"
    assert server.behaviour.counts["chat"] == 1


PASSING = ["500", "502", "503", "504", "408", "429", "drop", "reset", "hang", "drip"]
GARBLED = [
    "html",
    "gzip",
    "huge",
    "redirect",
    "204",
    "raw:",
    "raw:null",
    "raw:[]",
    'raw:{"choices": []}',
    'raw:{"choices": [{"message": {"content": null}}]}',
    'raw:{"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]}',
    'raw:{"choices": [{"message": {"content": "wr',
    "raw:" + "[" * 200_000,
    "raw:" + "1" * 5000,
]


@pytest.mark.parametrize("fault", PASSING + GARBLED, ids=lambda fault: fault[:40])
def test_a_fault_that_passes_is_outlived(chat: Chat, server: JudgeServer, fault: str):
    server.script.first = [fault]
    server.script.says = "generic"
    assert ask(chat) == "generic"
    assert server.behaviour.pairs.total() == 2


@pytest.mark.parametrize("fault", ["html", "gzip", "huge", "redirect", "raw:{}", 'raw:{"error": "x"}', "404:<html>"])
def test_nonsense_about_one_item_is_given_up_after_the_attempts_allowed(chat: Chat, server: JudgeServer, fault: str):
    ask(chat, "Owl")
    server.script.on = {"Wren": fault}
    with pytest.raises(Unanswered, match="3 attempts failed") as caught:
        ask(chat)
    assert not caught.value.outage
    assert server.behaviour.pairs['["Robin", "Wren"]'] == 3


def test_what_the_model_says_without_sense_is_asked_for_three_times(server: JudgeServer):
    server.script.on = {"Wren": "says:banana"}
    for chat in opened(Server(url=server.url, attempts=9)):
        with pytest.raises(Unanswered, match=r"3 attempts failed, at last: a reply without sense .no verdict: banana"):
            chat.run(chat.ask, partial(body, "Wren"), strict).result(30)


@pytest.mark.parametrize("fault", ["500", "drop", "reset"])
def test_items_that_always_fail_are_given_up_alone(chat: Chat, server: JudgeServer, fault: str):
    server.script.faults, server.script.most = {fault: 1.0}, 10**6
    began = time.monotonic()
    futures = [chat.run(chat.ask, partial(body, f"Bird {n}"), content) for n in range(5)]
    reasons = [str(future.exception(30)) for future in futures]
    assert all("3 attempts failed, at last: " in reason for reason in reasons)
    assert time.monotonic() - began < 2.0  # patience
    assert 12 <= server.behaviour.counts[fault] <= 15  # on a busy machine one may end before it arrives


def test_an_error_of_one_item_is_given_up_after_the_attempts_allowed(chat: Chat, server: JudgeServer):
    server.script.on = {"Wren": "500"}
    with pytest.raises(Unanswered, match=r"3 attempts failed, at last: status 500 '.*fault 500.*'"):
        ask(chat)
    assert server.behaviour.counts["500"] == 3


@pytest.mark.parametrize("fault", ["400", "409", "413", "422", "499"])
def test_a_refusal_is_not_asked_again(chat: Chat, server: JudgeServer, fault: str):
    server.script.on = {"Wren": fault}
    with pytest.raises(Unanswered, match=f"refused: status {fault}"):
        ask(chat)
    assert server.behaviour.counts["chat"] == 1


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("401", "must take the key of the environment variable FGVR_JUDGE_KEY, but it answers status 401 '.*fault"),
        ("403", "must take the key"),
        ("404", "must serve 'judge' at .*/v1/chat/completions, but it answers status 404"),
        ("400:no such model: judge", "must serve 'judge'"),
    ],
)
def test_a_wrong_set_up_stops_everything_at_once(chat: Chat, server: JudgeServer, fault: str, sentence: str):
    server.script.down = fault
    with pytest.raises(UserError, match=sentence):
        ask(chat)
    assert server.behaviour.counts["chat"] == 2  # something harmless was asked too


@pytest.mark.parametrize(
    "fault",
    [
        "400:this is no judgement, nor is judge-2 here",
        "400:judge: content filter, the prompt triggers our content management policy",
        "400:the answer 'no such model: judge' may not be said",
        "403:judge: the moderation flagged your input",
    ],
)
def test_a_refusal_that_is_not_of_everything_is_of_the_item(chat: Chat, server: JudgeServer, fault: str):
    server.script.on = {"Wren": fault}
    with pytest.raises(Unanswered, match=f"refused: status {fault[:3]}"):
        ask(chat)
    assert server.behaviour.pairs['["Robin", "Wren"]'] == 1
    assert ask(chat, "Owl") == right("Robin", "Owl")


@pytest.mark.parametrize("fault", ["401", "404"])
def test_a_server_that_loses_its_way_for_a_moment_is_asked_again(chat: Chat, server: JudgeServer, fault: str):
    server.script.first = [fault]
    assert ask(chat) == right("Robin", "Wren")


def test_what_was_filtered_is_not_asked_again(chat: Chat, server: JudgeServer):
    filtered = {"choices": [{"finish_reason": "content_filter", "message": {"content": ""}}]}
    server.script.on = {"Wren": f"raw:{json.dumps(filtered)}"}
    with pytest.raises(Unanswered, match=r"refused: a reply without sense .its content was filtered"):
        ask(chat)
    assert server.behaviour.counts["chat"] == 1


def test_probing_takes_a_refusal_for_an_answer(chat: Chat, server: JudgeServer):
    server.script.on = {"Wren": "400:judge has no such field", "Owl": "404"}
    for answer in ("Wren", "Owl"):
        with pytest.raises(Unanswered):
            ask(chat, answer, probing=True)


def test_retry_after_is_heard(chat: Chat, server: JudgeServer):
    server.script.first, server.script.retry_after = ["429"], "1.5"
    began = time.monotonic()
    ask(chat)
    assert time.monotonic() - began >= 1.5


def test_a_date_to_ask_again_at_is_of_the_server_s_clock_which_ours_may_be_an_hour_from():
    wish = {"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert _seconds(wish) == 30
    assert _seconds({**wish, "Date": "today"}) == 0


@pytest.mark.parametrize("wish", ["-5", "nan", "inf", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", "9" * 400, ""])
def test_a_senseless_retry_after_is_passed_over(chat: Chat, server: JudgeServer, wish: str):
    server.script.first, server.script.retry_after = ["429"], wish
    began = time.monotonic()
    ask(chat)
    assert time.monotonic() - began < 1.5


def test_a_body_is_given_up_as_soon_as_it_is_too_long(chat: Chat, server: JudgeServer):
    server.script.on = {"Wren": "huge"}
    with pytest.raises(Unanswered, match="longer than 1048576 bytes"):
        ask(chat)


def test_the_bound_on_open_requests_holds_over_threads(server: JudgeServer):
    server.script.delay = 0.02
    for chat in opened(Server(url=server.url, concurrency=5)):
        futures = [chat.run(chat.ask, partial(body, f"Bird {n}"), content) for n in range(60)]
        assert len([future.result(30) for future in futures]) == 60
    assert server.behaviour.counts["peak"] == 5


def test_connections_are_kept(server: JudgeServer):
    server.behaviour.peers.clear()
    for chat in opened(Server(url=server.url, concurrency=2)):
        for n in range(10):
            ask(chat, f"Bird {n}")
    assert len(server.behaviour.peers) == 1


def test_an_outage_within_patience_loses_nothing():
    server = JudgeServer()
    server.start()
    for chat in opened(Server(url=server.url, timeout=1.0, attempts=1, patience=20.0)):
        ask(chat)
        server.kill()
        futures = [chat.run(chat.ask, partial(body, f"Bird {n}"), content) for n in range(50)]
        time.sleep(1.0)
        assert not any(future.done() for future in futures)
        server.start()
        assert len([future.result(30) for future in futures]) == 50
    server.kill()


@pytest.mark.parametrize("fault", ["hang", "drop", "503", "500"])
def test_an_outage_costs_patience_once_not_for_each(server: JudgeServer, fault: str):
    server.script.down = fault
    for chat in opened(Server(url=server.url, concurrency=4, timeout=0.6, attempts=1, patience=1.2)):
        began = time.monotonic()
        futures = [chat.run(chat.ask, partial(body, f"Bird {n}"), content) for n in range(300)]
        reasons = [str(future.exception(30)) for future in futures]
        assert all("nothing good was heard for 1.2 s" in reason for reason in reasons)
        first = time.monotonic() - began
        server.behaviour.counts.clear()
        again = [chat.run(chat.ask, partial(body, f"Bird {n}"), content) for n in range(100)]
        assert all(isinstance(future.exception(30), Unanswered) for future in again)
        second = time.monotonic() - began - first
        assert first < 4.0
        assert second < 2.5
        assert 1 <= server.behaviour.counts["chat"] <= 20  # it is still tried, and no more than that
        server.script.down = ""
        assert ask(chat) == right("Robin", "Wren")


def test_nobody_there():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        port = taken.getsockname()[1]
        for chat in opened(Server(url=f"http://127.0.0.1:{port}/v1", patience=0.5)):
            with pytest.raises(Unanswered, match="ClientConnectorError") as caught:
                ask(chat)
            assert caught.value.outage


def test_a_host_without_an_address():
    for chat in opened(Server(url="http://no-such-host.invalid/v1", patience=0.2)):
        with pytest.raises(Unanswered, match="ClientConnector"):
            ask(chat)


def test_requests_and_retries_are_counted(server: JudgeServer):
    server.script.first, counts = ["500", "429"], []
    for chat in opened(Server(url=server.url), counts):
        ask(chat)
    assert sorted(counts) == ["judge/requests"] * 5 + ["judge/retries"] * 2  # two to sound the server out


def test_it_closes_and_opens_again(chat: Chat, server: JudgeServer):
    def alive() -> int:
        return sum(thread.name == "fgvr-judge" for thread in threading.enumerate())

    before = alive()
    ask(chat)
    assert alive() == before + 1
    chat.close()
    chat.close()
    assert alive() == before
    ask(chat)
    assert alive() == before + 1


def test_closing_ends_what_is_under_way(chat: Chat, server: JudgeServer):
    server.script.on = {"Wren": "hang"}
    future = chat.run(chat.ask, partial(body, "Wren"), content)
    while not server.behaviour.counts["hang"]:
        time.sleep(0.01)
    chat.close()
    assert future.cancelled() or isinstance(future.exception(5), Unanswered)


def test_a_chat_that_is_forgotten_ends_its_thread(server: JudgeServer):
    chat = Chat(Server(url=server.url), "judge", lambda name: None)
    ask(chat)
    assert chat._open is not None
    thread = chat._open.line.thread
    del chat
    thread.join(10)
    assert not thread.is_alive()


def test_it_works_where_an_event_loop_runs_already(chat: Chat):
    async def in_a_notebook() -> str:
        return ask(chat)

    assert asyncio.run(in_a_notebook())


def test_models_are_named(chat: Chat, server: JudgeServer):
    assert chat.run(chat.models).result(10) == ["judge"]
    server.script.lists_models = False
    with pytest.raises(Unanswered):
        chat.run(chat.models).result(10)
