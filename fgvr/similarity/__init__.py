"""Which classes look alike: for each the most similar other ones, by measures that a config chooses among."""

from fgvr.similarity.base import Classes, Ranking, Similarity
from fgvr.similarity.by_name import FolderNames
from fgvr.similarity.centroids import FolderCentroids, TowerCentroids
from fgvr.similarity.confusion import OnlineConfusion
from fgvr.similarity.siblings import Siblings

__all__ = [
    "Classes",
    "FolderCentroids",
    "FolderNames",
    "OnlineConfusion",
    "Ranking",
    "Siblings",
    "Similarity",
    "TowerCentroids",
]
