"""DiVE-k's choice on TAPO's triplets."""

from __future__ import annotations

from fgvr.modules import TAPO, DiVEk


class TripletChoice(DiVEk, TAPO):
    """Chooses among the model's own likeliest names, about two photos of a class, and unlike about a third photo.

    `DiVEk` (arXiv 2511.18305) makes the reward of the choice and logs what guessing would earn. What it is told besides
    it hands on to `TAPO` (arXiv 2602.07605, section 4.3), whose losses these are: the base that stands second is GRPO's
    place in the first. The positive is asked with the anchor's options, which hold its label as well.
    """
