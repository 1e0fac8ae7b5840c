"""Where photos come from, before they are shards: each layout one subclass of `Source`."""

from fgvr.sources.image_folder import CSV, ImageFolder, Record, Refusal, Source, SourceGone

__all__ = ["CSV", "ImageFolder", "Record", "Refusal", "Source", "SourceGone"]
