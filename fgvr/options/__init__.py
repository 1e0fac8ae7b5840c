"""Which names stand in a question of choice: what a model itself answers, ranked and cut, or other sources of them."""

from fgvr.options.sources import Alike, Asked, Confused, Mined, Mixture, OptionSource, RandomNames

__all__ = ["Alike", "Asked", "Confused", "Mined", "Mixture", "OptionSource", "RandomNames"]
