"""Where photos come from, before they are shards: each layout one subclass of `Source`."""

from fgvr.sources.aircraft import Aircraft
from fgvr.sources.auto import Auto
from fgvr.sources.backbone import Backbone
from fgvr.sources.base import PartnerRecord, Record, Refusal, Source, SourceGone
from fgvr.sources.benchmark import Benchmark, Listing
from fgvr.sources.choice_json import ChoiceJSON
from fgvr.sources.closed_world_json import ClosedWorldJSON
from fgvr.sources.csv_file import CSV
from fgvr.sources.cub import CUB
from fgvr.sources.flowers import Flowers102
from fgvr.sources.food import Food101
from fgvr.sources.image_folder import ImageFolder
from fgvr.sources.inaturalist import INaturalist
from fgvr.sources.messages_json import MessagesJSON
from fgvr.sources.metadata_folder import MetadataFolder
from fgvr.sources.pets import OxfordPets
from fgvr.sources.protocols import Photo
from fgvr.sources.respelt import Respelt
from fgvr.sources.speciarl_parquet import SpeciaRLParquet
from fgvr.sources.stanford_cars import StanfordCars
from fgvr.sources.stanford_dogs import StanfordDogs
from fgvr.sources.triplet_parquet import TripletParquet
from fgvr.sources.within import Within

__all__ = [
    "CSV",
    "CUB",
    "Aircraft",
    "Auto",
    "Backbone",
    "Benchmark",
    "ChoiceJSON",
    "ClosedWorldJSON",
    "Flowers102",
    "Food101",
    "INaturalist",
    "ImageFolder",
    "Listing",
    "MessagesJSON",
    "MetadataFolder",
    "OxfordPets",
    "PartnerRecord",
    "Photo",
    "Record",
    "Refusal",
    "Respelt",
    "Source",
    "SourceGone",
    "SpeciaRLParquet",
    "StanfordCars",
    "StanfordDogs",
    "TripletParquet",
    "Within",
]
