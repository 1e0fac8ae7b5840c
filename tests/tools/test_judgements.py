import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cache_processes import entry
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis_server import RedisServer

from fgvr.__main__ import main
from fgvr.errors import UserError
from fgvr.judges.caches.base import CacheEntry
from fgvr.judges.caches.redis import RedisCache
from fgvr.judges.caches.sqlite import SQLiteCache
from fgvr.judges.served.llm import LLMJudge
from fgvr.judges.served.prompt import Decoding, Prompt
from fgvr.tools.judgements import Merged, export_judgements, merge_judgements
from fgvr.types import Verdict


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def full(tmp_path: Path) -> Iterator[SQLiteCache]:
    with SQLiteCache(tmp_path / "full.sqlite") as cache:
        cache.put([entry(key, key) for key in ("b", "a", "c")])
        yield cache


@pytest.fixture
def other(tmp_path: Path) -> Iterator[SQLiteCache]:
    with SQLiteCache(tmp_path / "other.sqlite") as cache:
        yield cache


def test_a_line_for_each_judgement_in_the_order_of_keys(full: SQLiteCache, tmp_path: Path) -> None:
    out = tmp_path / "judgements.jsonl"
    assert export_judgements(full, out) == 3
    lines = out.read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["a", "b", "c"]
    assert lines[0] == (
        '{"answer":"finch of a","distribution":{"abstain":0.25,"specific":0.75},"key":"a","label":"Azure Finch",'
        f'"model":"tiny","prompt":"{"0" * 64}","revision":"r1","verdict":"specific"}}'
    )


ENTRIES = st.lists(
    st.builds(
        CacheEntry,
        st.text("abc", min_size=1, max_size=4),
        st.text(max_size=9) | st.just("\ud800\n"),
        st.text(max_size=9),
        st.sampled_from(Verdict),
        st.none() | st.just({Verdict.WRONG: 1 / 3, Verdict.GENERIC: 2 / 3}),
        st.text(max_size=3),
        st.text(max_size=3),
        st.text(max_size=3),
    ),
    max_size=8,
    unique_by=lambda made: made.key,
)


@given(ENTRIES, st.randoms())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_goes_out_comes_back_from_any_cache_as_the_same_bytes(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory, made: list[CacheEntry], chance: Any
) -> None:
    folder = tmp_path_factory.mktemp("there")
    with (
        SQLiteCache(folder / "here.sqlite") as here,
        RedisCache(redis_server.url, prefix=f"{folder}:") as there,
        SQLiteCache(folder / "back.sqlite") as back,
    ):
        here.get([])  # makes the file
        here.put(made)
        assert export_judgements(here, folder / "here.jsonl") == len(made)
        lines = (folder / "here.jsonl").read_bytes().splitlines(keepends=True)
        chance.shuffle(lines)
        (folder / "mixed.jsonl").write_bytes(b"".join(lines))
        assert merge_judgements(there, folder / "mixed.jsonl") == Merged(len(made), 0, ())
        export_judgements(there, folder / "there.jsonl")
        merge_judgements(back, folder / "there.jsonl")
        assert sorted(back.entries(), key=lambda found: found.key) == sorted(made, key=lambda found: found.key)
        assert (folder / "there.jsonl").read_bytes() == (folder / "here.jsonl").read_bytes()


def test_many_lines(other: SQLiteCache, tmp_path: Path) -> None:
    with SQLiteCache(tmp_path / "many.sqlite") as cache:
        cache.put([entry(f"k{number}") for number in range(2500)])
        export_judgements(cache, tmp_path / "many.jsonl")
    assert merge_judgements(other, tmp_path / "many.jsonl") == Merged(2500, 0, ())
    assert merge_judgements(other, tmp_path / "many.jsonl") == Merged(0, 2500, ())


def test_what_the_cache_has_stays_and_is_named(full: SQLiteCache, other: SQLiteCache, tmp_path: Path) -> None:
    kept = replace(entry("b", "b"), verdict=Verdict.WRONG, distribution=None)
    other.put([kept, entry("c", "c")])
    export_judgements(full, tmp_path / "full.jsonl")
    assert merge_judgements(other, tmp_path / "full.jsonl") == Merged(added=1, present=2, differing=("b",))
    assert other.get(["a", "b", "c"]) == {"a": entry("a", "a"), "b": kept, "c": entry("c", "c")}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda line: line[:-10], r"at character 221 \(Unterminated"),
        (lambda line: line.replace('"specific"', '"probably"'), "a verdict must be one of"),
        (lambda line: line.replace("0.75", "NaN"), "a number must be finite"),
        (lambda line: line.replace("0.75", "0.5"), "probabilities must sum to 1"),
        (lambda line: line.replace('"key":"b",', ""), "a key must be"),
        (lambda line: line.replace('"model"', '"name"'), "it must have exactly"),
        (lambda line: "", r"at character 1 \(Expecting value"),
        (lambda line: "[1]", "it must be one JSON object"),
    ],
)
def test_a_line_that_is_no_judgement_is_named_and_nothing_is_merged(
    full: SQLiteCache, other: SQLiteCache, tmp_path: Path, change: Any, what: str
) -> None:
    file = tmp_path / "full.jsonl"
    export_judgements(full, file)
    lines = file.read_text().splitlines()
    lines[1] = change(lines[1])
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=rf"{file} line 2 must be a judgement .*({what})"):
        merge_judgements(other, file)
    assert list(other.entries()) == []


def test_the_command(full: SQLiteCache, tmp_path: Path, capsys: Any) -> None:
    out, there = str(tmp_path / "out.jsonl"), str(tmp_path / "there.sqlite")
    assert main(["judgements", "--cache", str(full.path), "--out", out]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first == f"{out}: 3 judgements of {full}."
    assert last.endswith(f": python -m fgvr judgements --merge {out} --cache CACHE")
    assert main(["judgements", "--cache", there, "--merge", out, "--quiet"]) == 0
    assert capsys.readouterr().out == f"SQLiteCache('{there}'): 3 judgements added, 0 were there already.\n"
    Path(out).write_text(Path(out).read_text().replace("finch of b", "another"))
    assert main(["judgements", "--cache", "SQLiteCache", "--cache.path", there, "--merge", out]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].endswith(": 0 judgements added, 3 were there already.")
    assert told[1] == f"1 differ from {out} and stay as they were: b."


def test_the_command_with_a_redis(
    full: SQLiteCache, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FGVR_REDIS_URL", redis_server.url)
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    assert main(["judgements", "--cache", str(full.path), "--out", str(one)]) == 0
    redis = ["--cache", "RedisCache", "--cache.prefix", "command:"]
    assert main(["judgements", *redis, "--merge", str(one)]) == 0
    assert main(["judgements", *redis, "--out", str(two)]) == 0
    assert two.read_bytes() == one.read_bytes() != b""


def test_what_the_command_refuses(full: SQLiteCache, tmp_path: Path, capsys: Any) -> None:
    missing, file = tmp_path / "missing.sqlite", tmp_path / "out.jsonl"
    for options, sentence in (
        ([], "one of out and merge must be given, got none of them"),
        (["--out", str(file), "--merge", str(file)], "got both of them"),
        (["--cache", str(missing), "--out", str(file)], f"{missing} must be a cache of judgements, but there is no"),
        (["--cache", str(full.path), "--out", str(tmp_path / "no" / "out.jsonl")], "in a folder that exists"),
        (["--cache", str(full.path), "--merge", str(file)], f"there is no file {file}"),
        (["--cache", "RedisCache", "--cache.url", "redis://:s3cr3t@host", "--out", str(file)], "A password must not"),
    ):
        assert main(["judgements", *options]) == 2
        said = capsys.readouterr().err
        assert sentence in said
        assert "s3cr3t" not in said
    assert not missing.exists()
    assert not file.exists()


def test_judgements_replay_offline_on_another_machine(tmp_path: Path) -> None:
    pairs = [("Azure Finch", "a passerine"), ("Jade Owl", "some raptor")]
    verdicts = [Verdict.GENERIC, Verdict.LESS_SPECIFIC]
    prompt = Prompt("tiny", "r1", Decoding("structured_outputs", thinking_off=True))
    with SQLiteCache(tmp_path / "here.sqlite") as here:
        for (label, answer), verdict in zip(pairs, verdicts, strict=True):
            key = prompt.question(label, answer).key
            here.put([CacheEntry(key, label, answer, verdict, None, "tiny", "r1", prompt.hash)])
        export_judgements(here, tmp_path / "run.jsonl")
    with SQLiteCache(tmp_path / "there.sqlite") as there:
        merge_judgements(there, tmp_path / "run.jsonl")
        judge = LLMJudge("tiny", revision="r1", cache=there, offline=True)
        assert [getattr(found, "verdict", found) for found in judge.verdicts(pairs)] == verdicts
        judge.release()
