"""A trained model as a thing to use: photos in, names with their confidence at each rank out."""

from fgvr.recogniser.loading import load
from fgvr.recogniser.recogniser import Recogniser
from fgvr.recogniser.recognition import Candidate, Recognition
from fgvr.recogniser.ways import Ways

__all__ = ["Candidate", "Recogniser", "Recognition", "Ways", "load"]
