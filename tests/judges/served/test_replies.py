import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgvr.judges.served.prompt import Decoding, Prompt
from fgvr.judges.served.replies import Faulty, Filtered, content, distribution, parsed, read, tokens_used, verdict
from fgvr.types import Verdict

PLAIN = Prompt("m", "r", Decoding())


class TestVerdict:
    @pytest.mark.parametrize("each", list(Verdict))
    def test_plain(self, each: Verdict):
        name = str(each)
        for text in (
            name, f" {name}\n", name.upper(), name.title(), f"{name}.", f'"{name}"', f"'{name}'.", f"`{name}`",
            f"“{name}”", name.replace(" ", "_"), f'{{"verdict": "{name}"}}', f' {{ "verdict" : "{name.upper()}" }} ',
        ):  # fmt: skip
            assert verdict(text) is each

    @pytest.mark.parametrize(
        "text",
        [
            "", " ", ".", "specific!", "very specific", "specific specific", "specific, wrong", "the verdict is wrong",
            "less-specific", "lessspecific", "correct", "1", "1.0", "NaN", "null", "true", "[]", "{}", '["wrong"]',
            "```wrong```json",
            '{"verdict": null}', '{"verdict": true}', '{"verdict": 1}', '{"verdict": NaN}', '{"verdict": 1e999}',
            '{"verdict": -1}', '{"verdict": ["wrong"]}', '{"verdict": {"verdict": "wrong"}}', '{"verdict": "good"}',
            '{"verdict": "wrong"} {"verdict": "wrong"}', '{"verdict": "wrong", "verdict": "specific"}',
            '{"verdict": "wrong", "score": 1}', '{"Verdict": "wrong"}', '{"verdict": "wrong"', "{'verdict': 'wrong'}",
            '{"score": NaN}', '"{\\"verdict\\": \\"wrong\\"}"', "wrong" * 1000, "specific\x00", "ѕpecific",
        ],
    )  # fmt: skip
    def test_anything_else_is_no_verdict(self, text: str):
        with pytest.raises(ValueError):  # noqa: PT011 - from json too
            verdict(text)

    @pytest.mark.parametrize("each", list(Verdict))
    def test_as_chat_models_write_it(self, each: Verdict):
        name = str(each)
        for text in (
            f"```\n{name}\n```", f'```json\n{{"verdict": "{name}"}}\n```', f"```text\n\n{name}.\n\n```\n",
            f"**{name}**", f"**{name}**.", f"**{name.title()}.**", f'**"{name}"**',
            f"Verdict: {name}", f"verdict: {name}.", f"VERDICT:\n{name}", f"**Verdict:** {name}",
            f"**Verdict**: {name}",
            f"**Verdict: {name}**", f"Verdict: **{name}**", f"**Verdict:** **{name}**", f"Verdict: `{name}`",
            f"<think>hm</think>{name}", f"<think>\nis it wrong?\n\n</think>\n\n{name}\n", f"<think></think>**{name}**",
            f'<think>\n</think>\n```json\n{{"verdict": "{name}"}}\n```',
            # as behind a template that opens the thoughts in the prompt, without a reasoning parser
            f"Is it wrong? No.\n</think>\n\n{name}", f"</think>\n{name}", f'hm </think> {{"verdict": "{name}"}}',
            f"hm</think>**Verdict:** {name}.", f"hm</think>\n```\n{name}\n```",
        ):  # fmt: skip
            assert verdict(text) is each, text

    @pytest.mark.parametrize(
        "text",
        [
            # text beside the fence, two fences, one that begins too late
            "So:\n```\nwrong\n```", "```\nwrong\n```\nas said", "```\nwrong\n```\n```\nspecific\n```",
            "```wrong\nspecific```",
            # bold in a part, twice, or of another kind
            "wr**on**g", "**less** specific", "**wrong** **wrong**", "****wrong****", "***wrong***", "*wrong*",
            "**wrong", "wrong**", "not **wrong**", "**not** wrong",
            # the name of something else, twice, or with something between
            "Verdict: Verdict: wrong", "My verdict: wrong", "Answer: wrong", "Verdict: wrong or specific",
            "Verdict wrong", "Verdict: not wrong", "Verdict: wrong, verdict: specific", "Verdict:", "Verdict: ",
            "verdict: wrong\nspecific",
            # thoughts that do not end, begin late, are two or quote an end
            "<think>wrong", "<think>hm</think>", "wrong<think>hm</think>", "<think>hm</think>wrong<think>hm</think>",
            "<think>hm</think><think>hm</think>wrong", "hm</think><think>hm</think>wrong",
            "hm</think>hm</think>wrong", "</think></think>wrong", "hm<think>hm</think>wrong",
            "It is wrong</think>", "wrong</think>", "</think>", "wrong</think>\n.", "hm</think>wrong, I think",
            # nor is a thought what begins in a wrapping that ends after it
            "```\n</think>\nwrong\n```", "```\nhm</think>wrong\n```", '"hm</think>wrong"', '{"hm</think>wrong',
            "<think>he says </think> specific, so</think>wrong",
            "<think>a<think>b</think>wrong", "<thinking>hm</thinking>wrong", "Hm. <think>hm</think>wrong",
            # inside an object nothing is unwrapped
            '{"verdict": "**wrong**"}', '{"verdict": "Verdict: wrong"}', '**{"verdict": "wrong"}**',
            'Verdict: {"verdict": "wrong"}', '{"verdict": "<think>hm</think>wrong"}',
        ],
    )  # fmt: skip
    def test_and_not_more_loosely_than_that(self, text: str):
        with pytest.raises(ValueError):  # noqa: PT011 - from json too
            verdict(text)

    def test_a_verdict_at_the_end_of_cut_thoughts_may_be_a_quotation(self):
        for thought in ("<think>The answer says </think> specific", "The answer says </think> specific"):
            assert verdict(thought) is Verdict.SPECIFIC
            with pytest.raises(ValueError, match="no verdict"):
                verdict(thought, whole=False)

    @given(st.text(alphabet="`*_:{}<>/\"'. \nthinkverdictwrongspecific", max_size=60))
    def test_what_is_read_stands_alone(self, text: str):
        """Whatever surrounds it, the letters of a verdict that is read are all that is left of the words."""
        with contextlib.suppress(ValueError):
            found = str(verdict(text))
            assert found.replace(" ", "") in "".join(text.casefold().replace("_", " ").split())

    @given(st.text(max_size=30))
    def test_no_text_breaks_it(self, text: str):
        with contextlib.suppress(ValueError):
            assert verdict(text) in Verdict


def reply(text: Any = "wrong", tops: Any = None, choices: int = 1) -> dict[str, Any]:
    choice: dict[str, Any] = {"message": {"content": text}}
    if tops is not None:
        choice["logprobs"] = {"content": [{"token": "w", "logprob": 0.0, "top_logprobs": tops}]}
    return {"choices": [choice] * choices}


def tops(**shares: float) -> list[dict[str, Any]]:
    return [{"token": token, "logprob": math.log(share), "bytes": None} for token, share in shares.items()]


class TestReply:
    @pytest.mark.parametrize(
        "bad",
        [None, [], "wrong", 1, {}, {"choices": None}, {"choices": []}, {"choices": {}}, {"choices": ["wrong"]},
         {"choices": [{}]}, {"choices": [{"message": "wrong"}]}, reply(None), reply(1), reply(["wrong"]),
         reply(choices=2), {"error": {"message": "overloaded"}}],
    )  # fmt: skip
    def test_what_is_no_completion_is_refused(self, bad: Any):
        sentence = r"it has not exactly one choice|its choice has no message|its message has no text|it is an error"
        with pytest.raises(ValueError, match=sentence):
            content(bad)

    @pytest.mark.parametrize(
        ("bad", "status"),
        [
            ({"error": {"message": "slow down", "code": 429}}, 429),
            ({"error": {"message": "slow down", "code": "503"}, "choices": []}, 503),
            ({"error": {"message": "x", "code": "rate_limit_exceeded"}}, 429),
            ({"error": {"message": "Too many requests", "type": "x"}}, 429),
            ({"error": {"type": "overloaded_error", "message": "Overloaded"}}, 429),
            ({"error": "internal"}, 500),
            ({"error": {"message": "x", "code": True}}, 500),
            ({"error": {"message": "x", "code": 42}}, 500),
            ({"object": "error", "message": "gone", "code": 404}, 404),
            ({"choices": [{"error": {"code": 502, "message": "x"}, "message": {"content": ""}}]}, 502),
            ({"choices": [{"finish_reason": "error", "message": {"content": "wro"}}]}, 500),
            ({"choices": []}, 500),
            ({"message": "down for maintenance"}, 500),
        ],
    )
    def test_an_error_is_what_it_says_whatever_the_status_of_its_reply(self, bad: Any, status: int):
        with pytest.raises(Faulty) as caught:
            content(bad)
        assert caught.value.status == status

    def test_an_error_of_null_beside_a_choice_is_none(self):
        assert content(reply("wrong") | {"error": None}) == "wrong"

    def test_what_was_filtered_is_no_text(self):
        filtered = reply("")
        filtered["choices"][0]["finish_reason"] = "content_filter"
        with pytest.raises(Filtered):
            content(filtered)

    def test_a_text_may_come_in_parts(self):
        def text(said: str) -> dict[str, str]:
            return {"type": "text", "text": said}

        thought = {"type": "thinking", "thinking": [text("is it specific?")]}
        for parts in ([text("wrong")], [text("wr"), text("ong")], [thought, text("wrong")]):
            assert read(reply(parts), with_distribution=False).verdict is Verdict.WRONG
        picture = {"type": "image_url", "image_url": {"url": "x"}}
        for parts in ([], [thought], [text("wrong"), thought], [text("wrong"), picture], [{"type": "text", "text": 1}],
                      [{"type": "text"}], [text("wrong"), "specific"], [{"text": "wrong"}]):  # fmt: skip
            with pytest.raises(ValueError, match="its message has no text"):
                content(reply(parts))

    def test_a_reply_that_was_cut_says_what_to_raise(self):
        cut = reply("<think>let me see")
        cut["choices"][0]["finish_reason"] = "length"
        with pytest.raises(ValueError, match=r"no verdict; it was cut off: raise judge\.max_tokens"):
            read(cut, with_distribution=False)

    def test_the_first_token_tells_nothing_of_a_verdict_that_does_not_come_first(self):
        for text in ("Verdict: wrong", "```\nwrong\n```", "<think>hm</think>wrong"):
            assert read(reply(text, tops(Ver=0.9, spec=0.1)), with_distribution=True).distribution is None
        assert read(reply(" Wrong\n", tops(Wr=0.1, w=0.9)), with_distribution=True).distribution is not None

    def test_the_distribution_is_read_only_where_it_was_asked_for(self):
        answered = reply("wrong", tops(w=1.0))
        assert PLAIN.read(answered).distribution is None
        assert Prompt("m", "r", Decoding(logprobs=20)).read(answered).distribution is not None

    def test_a_verdict_without_a_distribution_is_one(self):
        found = Prompt("m", "r", Decoding(logprobs=20)).read(reply("generic"))
        assert (found.verdict, found.distribution) == (Verdict.GENERIC, None)


class TestDistribution:
    def test_by_hand(self):
        # 0.4 + 0.1 of specific, 0.2 of wrong, 0.1 each of more and less specific; 0.1 is of none: all times 1 / 0.9
        found = distribution(reply(tops=tops(spec=0.4, s=0.1, wrong=0.2, more=0.1, The=0.1, less=0.1)))
        assert found == {
            Verdict.WRONG: pytest.approx(2 / 9),
            Verdict.ABSTAIN: 0,
            Verdict.GENERIC: 0,
            Verdict.LESS_SPECIFIC: pytest.approx(1 / 9),
            Verdict.SPECIFIC: pytest.approx(5 / 9),
            Verdict.MORE_SPECIFIC: pytest.approx(1 / 9),
        }

    def test_white_space_before_a_token_is_passed_over_and_none_is_no_verdict(self):
        entries = [{"token": " wr", "logprob": -1.0}, {"token": " ", "logprob": -0.1}, {"token": "", "logprob": -0.1}]
        found = distribution(reply(tops=entries))
        assert found is not None
        assert found[Verdict.WRONG] == 1

    def test_the_first_letters_tell_the_verdicts_apart(self):
        assert len({str(each)[0] for each in Verdict}) == len(Verdict)

    @pytest.mark.parametrize(
        "entries",
        [
            [], [{"token": "The", "logprob": -0.1}], [{"token": "w", "logprob": float("nan")}],
            [{"token": "w", "logprob": float("-inf")}], [{"token": "w", "logprob": float("inf")}],
            [{"token": "w", "logprob": -0.1}, {"token": "x", "logprob": float("nan")}],
            [{"token": "w", "logprob": 1e9}], [{"token": "w"}],
            [{"token": "w", "logprob": -9999.0}], [{"token": "w", "logprob": None}], ["w"], None, {}, 3,
        ],
    )  # fmt: skip
    def test_what_is_not_finite_or_not_there_is_none(self, entries: Any):
        assert distribution(reply(tops=entries)) is None

    @pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": []}, {"content": [{}]}, [], "w"])
    def test_odd_shapes_are_none(self, logprobs: Any):
        assert distribution({"choices": [{"logprobs": logprobs}]}) is None

    @given(st.lists(st.tuples(st.sampled_from(["w", "spec", "gen", " a", "The", ""]), st.floats(-60, 0)), max_size=20))
    def test_it_sums_to_one(self, drawn: list[tuple[str, float]]):
        found = distribution(reply(tops=[{"token": token, "logprob": logprob} for token, logprob in drawn]))
        if found is not None:
            assert math.fsum(found.values()) == pytest.approx(1, abs=1e-9)
            assert all(0 <= share <= 1 for share in found.values())


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"\xff", b"[" * 200_000, b"1" * 5000])
def test_what_is_no_json_is_the_fault_of_the_server(body: bytes):
    with pytest.raises(Faulty, match="it is no JSON"):
        parsed(body)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [({"total_tokens": 903}, 903), ({"total_tokens": -1}, 7), ({"total_tokens": 10**9}, 7), ({"total_tokens": "9"}, 7),
     ({}, 7), (None, 7), ([], 7)],
)  # fmt: skip
def test_tokens_are_as_the_reply_says_where_that_can_be(usage: Any, tokens: int):
    assert tokens_used({"usage": usage}, otherwise=7) == tokens
    assert tokens_used([], otherwise=7) == 7
