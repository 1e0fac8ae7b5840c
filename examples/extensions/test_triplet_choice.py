from triplet_choice import TripletChoice

from fgvr.models import PolicyConfig, TinyQwen
from fgvr.models.sampling import Sampling
from fgvr.objectives import Triplet


def test_it_is_both():
    backbone = TinyQwen(["<answer>A</answer>"])
    sampling = Sampling(group_size=4, positives=2)
    both = TripletChoice(PolicyConfig(backbone), format_weight=0.5, triplet=Triplet(gamma=0.1), sampling=sampling)
    assert {name: term.weight for name, term in both.reward.terms.items()} == {"choice": 1, "format": 0.5}
    assert both.negatives == "detached"
    assert "divergence" in both.counted
