"""Judgements kept for good: what an entry is, how it is written down, and what every cache of them promises."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fgvr.types import Verdict

log = logging.getLogger(__name__)

FORMAT = 2  # of an entry as it is written down
WITHOUT_DIGEST = 1  # the format before it, which is read too
KEY = re.compile(r"[A-Za-z0-9._:-]{1,200}")
DIGITS = 16  # of a sha256
VERDICTS = {str(verdict): verdict for verdict in Verdict}
TEXTS = ("label", "answer", "model", "revision", "prompt")
FIELDS = frozenset({*TEXTS, "verdict", "distribution"})

Row = tuple[bytes, bytes]  # a key and what is stored under it, believed only once it was read as an entry

C = TypeVar("C", bound="VerdictCache")


@dataclass(frozen=True)
class CacheEntry:
    """One model's verdict on one (label, answer) pair, under a key that is made of everything it depends on.

    `key` is 1 to 200 letters, digits, dots, colons, dashes or underscores; `prompt` is the hash of the prompt's text.
    `distribution` holds the probabilities of verdicts, which sum to 1. Raises ValueError for anything else.
    """

    key: str
    label: str
    answer: str
    verdict: Verdict
    distribution: Mapping[Verdict, float] | None
    model: str
    revision: str
    prompt: str

    def __post_init__(self) -> None:
        if not isinstance(self.key, str) or not KEY.fullmatch(self.key):
            raise ValueError(f"a key must be 1 to 200 letters, digits or . _ : -, got {self.key!r}")
        for name in TEXTS:
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be text, got {getattr(self, name)!r}")
        if not isinstance(self.verdict, Verdict):
            raise ValueError(f"verdict must be a Verdict, got {self.verdict!r}")
        if self.distribution is not None:
            _check_distribution(self.distribution)


def _check_distribution(distribution: Mapping[Verdict, float]) -> None:
    for verdict, share in distribution.items():
        if not isinstance(verdict, Verdict):
            raise ValueError(f"a distribution must be over verdicts, got {verdict!r}")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:  # NaN fails it too
            raise ValueError(f"a probability must be from 0 to 1, got {share!r} for {str(verdict)!r}")
    if not math.isclose(math.fsum(distribution.values()), 1, abs_tol=1e-6):
        raise ValueError(f"probabilities must sum to 1, got {math.fsum(distribution.values())}")


def encode(entry: CacheEntry) -> str:
    """The entry without its key, and the digest of both, as one line of ASCII JSON, the same for equal entries."""
    return _line(as_json(entry) | {"digest": _digest(entry)})


def _digest(entry: CacheEntry) -> str:
    return hashlib.sha256(f"{entry.key} {_line(as_json(entry))}".encode()).hexdigest()[:DIGITS]


def _line(raw: Mapping[str, Any]) -> str:
    return json.dumps(raw, sort_keys=True, separators=(",", ":"), allow_nan=False)


def as_json(entry: CacheEntry) -> dict[str, Any]:
    """The entry without its key as JSON knows it: verdicts by name."""
    shares = None if entry.distribution is None else {str(v): float(p) for v, p in entry.distribution.items()}
    return {name: getattr(entry, name) for name in TEXTS} | {"verdict": str(entry.verdict), "distribution": shares}


def decode(key: str, text: str | bytes) -> CacheEntry:
    """What `encode` wrote, and nothing else: raises ValueError for whatever is not a whole and valid entry.

    One without a digest is of an older cache.
    """
    raw = parse_object(text)
    older = "digest" not in raw
    digest = raw.pop("digest", "")
    entry = from_json(key, raw)
    if not older and digest != _digest(entry):
        raise ValueError(f"its digest must be that of what it holds, {_digest(entry)}, got {digest!r}")
    return entry


def parse_object(text: str | bytes) -> dict[str, Any]:
    """One JSON object; raises ValueError for anything else, for a name given twice, and for NaN or an infinity."""
    try:
        raw = json.loads(text.strip(), object_pairs_hook=_each_once, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"it must be one JSON object, but is none at character {error.pos + 1} ({error.msg})"
        ) from error
    except RecursionError as error:
        raise ValueError("it must be one JSON object, but it is nested too deeply") from error
    if not isinstance(raw, dict):
        raise ValueError(f"it must be one JSON object, got {type(raw).__name__}")
    return raw


def from_json(key: str, raw: Mapping[str, Any]) -> CacheEntry:
    """The entry that `as_json` gave; raises ValueError for anything else."""
    if set(raw) != FIELDS:
        raise ValueError(f"it must have exactly {sorted(FIELDS)}, got {sorted(raw)}")
    shares = raw["distribution"]
    if shares is not None and not isinstance(shares, dict):
        raise ValueError(f"distribution must be an object or null, got {shares!r}")
    distribution = None if shares is None else {_verdict(name): share for name, share in shares.items()}
    return CacheEntry(key, raw["label"], raw["answer"], _verdict(raw["verdict"]), distribution, *_made_by(raw))


def _made_by(raw: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return raw["model"], raw["revision"], raw["prompt"]


def _verdict(name: object) -> Verdict:
    if not isinstance(name, str) or name not in VERDICTS:
        raise ValueError(f"a verdict must be one of {list(VERDICTS)}, got {name!r}")
    return VERDICTS[name]


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a JSON object must have each name once")
    return dict(pairs)


def _no_constant(name: str) -> float:
    raise ValueError(f"a number must be finite, got {name}")


class VerdictCache(ABC):
    """Verdicts by key, for good: the first write of a key wins, on every thread, process and node that shares it.

    It opens at first use and again after `close()`. A stored entry that cannot be read as one is deleted, counted in
    `damaged` and warned of, and is then as if it had never been there. UserError where the store cannot be used.
    """

    def __init__(self) -> None:
        self._deleted: list[int] = []  # appended to from any thread; a lock here could be forked while held

    @property
    def damaged(self) -> int:
        """Stored entries that could not be read and were deleted, by this object and this process."""
        return sum(self._deleted)

    @abstractmethod
    def get(self, keys: Sequence[str]) -> dict[str, CacheEntry]:
        """The entries there are under these keys; a key without one is left out."""

    @abstractmethod
    def put(self, entries: Sequence[CacheEntry]) -> dict[str, CacheEntry]:
        """What is stored under these entries' keys from now on: these, or what was written before them."""

    @abstractmethod
    def entries(self) -> Iterator[CacheEntry]:
        """Every entry once, in no order; those written meanwhile may be missing."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of connections; what was put is stored already."""

    def __enter__(self: C) -> C:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, rows: Iterable[Row]) -> tuple[dict[str, CacheEntry], list[Row]]:
        """The rows that are entries, by key, and those that are not, which are counted and warned of here."""
        sound: dict[str, CacheEntry] = {}
        damaged: list[Row] = []
        reason = ""
        for key, text in rows:
            name = key.decode("ascii", "backslashreplace")
            try:
                sound[name] = decode(name, text)
            except ValueError as error:
                damaged.append((key, text))
                reason = reason or f"{name}: {error}"
        if damaged:
            self._deleted.append(len(damaged))
            log.warning("%d damaged entries of %s were deleted, such as %s", len(damaged), self, reason)
        return sound, damaged
