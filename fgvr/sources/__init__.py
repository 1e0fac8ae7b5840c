"""Where photos come from, before they are shards: each layout one subclass of `Source`."""

from fgvr.sources.base import Record, Refusal, Source, SourceGone
from fgvr.sources.csv_file import CSV
from fgvr.sources.image_folder import ImageFolder

__all__ = ["CSV", "ImageFolder", "Record", "Refusal", "Source", "SourceGone"]
