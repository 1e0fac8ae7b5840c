"""Where photos come from, before they are shards: each layout one subclass of `Source`."""

from fgvr.sources.base import PartnerRecord, Record, Refusal, Source, SourceGone
from fgvr.sources.choice_json import ChoiceJSON
from fgvr.sources.csv_file import CSV
from fgvr.sources.image_folder import ImageFolder
from fgvr.sources.messages_json import MessagesJSON
from fgvr.sources.triplet_parquet import TripletParquet

__all__ = [
    "CSV",
    "ChoiceJSON",
    "ImageFolder",
    "MessagesJSON",
    "PartnerRecord",
    "Record",
    "Refusal",
    "Source",
    "SourceGone",
    "TripletParquet",
]
