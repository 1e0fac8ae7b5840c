"""Judges: how an answer relates to a label, in six ordered verdicts."""

from fgvr.judges.base import Judge, Judgement, Unjudged
from fgvr.judges.cache import CacheEntry, VerdictCache
from fgvr.judges.chat import Server
from fgvr.judges.llm import LLMJudge
from fgvr.judges.redis_cache import RedisCache
from fgvr.judges.sqlite_cache import SQLiteCache
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
