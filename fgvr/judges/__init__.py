"""Judges: how an answer relates to a label, in six ordered verdicts."""

from fgvr.judges.base import Judge, Judgement, Unjudged
from fgvr.judges.caches.base import CacheEntry, VerdictCache
from fgvr.judges.caches.redis import RedisCache
from fgvr.judges.caches.sqlite import SQLiteCache
from fgvr.judges.served.llm import LLMJudge
from fgvr.judges.served.server import Server
from fgvr.judges.taxonomy import TaxonomyJudge

__all__ = [
    "CacheEntry",
    "Judge",
    "Judgement",
    "LLMJudge",
    "RedisCache",
    "SQLiteCache",
    "Server",
    "TaxonomyJudge",
    "Unjudged",
    "VerdictCache",
]
