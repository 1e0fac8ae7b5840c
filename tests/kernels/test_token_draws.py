import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fgvr.kernels.token_draws import SPAN, draw_tokens, draw_tokens_reference

FORMS = [draw_tokens, partial(draw_tokens, sums=torch.long)]  # a CPU's own, and a GPU's
DRAWS = [*FORMS, draw_tokens_reference]


@pytest.mark.parametrize("draw", DRAWS)
def test_by_hand(draw):
    # cumulative .2, .2, .7, 1: a chance below .2 draws 0, from .2 on 2 (1 is impossible), from .7 on 3
    probabilities = torch.tensor([[0.2, 0.0, 0.5, 0.3]], dtype=torch.float64)
    chance = torch.tensor([[0.0, 0.19, 0.21, 0.69, 0.71, 1 - 2**-53]], dtype=torch.float64)
    tokens, drawn = draw(probabilities, chance)
    assert tokens.tolist() == [[0, 0, 2, 2, 3, 3]]
    assert drawn.tolist() == [[0.2, 0.2, 0.5, 0.5, 0.3, 0.3]]


@pytest.mark.parametrize("vocabulary", [1, 7, SPAN, SPAN + 1, 3 * SPAN - 1, 4099])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("draw", FORMS)
def test_spans_draw_what_the_whole_vocabulary_draws(vocabulary, temperature, draw):
    generator = torch.Generator().manual_seed(0)
    probabilities = (torch.randn(5, vocabulary, generator=generator) / temperature).softmax(-1)
    chance = torch.rand(5, 400, dtype=torch.float64, generator=generator)
    tokens, drawn = draw(probabilities, chance)
    assert torch.equal(tokens, draw_tokens_reference(probabilities, chance)[0])
    assert torch.equal(drawn, probabilities.gather(1, tokens))


@given(
    shares=st.lists(st.sampled_from([0.0, 1e-9, 0.01, 0.3, 1.0]), min_size=2, max_size=9).filter(any),
    before=st.sampled_from([0, SPAN - 1, 2 * SPAN]),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_an_impossible_token_is_never_drawn(shares, before, chance):
    probabilities = torch.tensor([[0.0] * before + shares + [0.0] * SPAN]) / sum(shares)
    for draw in DRAWS:
        token, drawn = draw(probabilities, torch.tensor([[chance]], dtype=torch.float64))
        assert float(drawn) == float(probabilities[0, int(token)]) > 0


@pytest.mark.parametrize("chance", [0.0, 1 - 2**-53])
def test_the_ends_of_the_range_draw_the_first_and_the_last_token_that_is_possible(chance):
    probabilities = torch.rand(50, 5 * SPAN, generator=torch.Generator().manual_seed(1))
    probabilities[:, : SPAN + 3] = 0
    probabilities[:, -SPAN - 9 :] = 0
    expected = SPAN + 3 if chance == 0 else 4 * SPAN - 10
    for draw in DRAWS:
        tokens, _ = draw(probabilities / probabilities.sum(-1, keepdim=True), torch.full((50, 1), chance).double())
        assert (tokens == expected).all()


@pytest.mark.parametrize("draw", DRAWS)
def test_draws_follow_the_distribution(draw):
    share = torch.tensor([[0.5, 0.25, 0.15, 0.1]], dtype=torch.float64)
    chance = torch.rand(1, 20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(draw(share, chance)[0][0], minlength=4).double()
    statistic = float(((counts - 20_000 * share[0]) ** 2 / (20_000 * share[0])).sum())
    assert statistic < 3 + 4 * math.sqrt(6)  # chi-square of 3 degrees of freedom: its mean, and 4 standard deviations


def test_whole_numbers_take_rows_that_add_up_to_more_than_one_and_tokens_that_are_hardly_possible():
    row = torch.full((1, 3 * SPAN), 1e-25)
    row[0, SPAN], row[0, 2 * SPAN] = 0.5, 0.5 + 1e-6
    chance = torch.tensor([[0.0, 0.4999, 0.5001, 1 - 2**-53]], dtype=torch.float64)
    assert draw_tokens(row, chance, torch.long)[0].tolist() == [[SPAN, SPAN, 2 * SPAN, 2 * SPAN]]


@pytest.mark.parametrize("draw", FORMS)
def test_broken_scores_give_a_token_and_their_own_probability(draw):
    tokens, drawn = draw(torch.full((2, SPAN + 5), torch.nan), torch.tensor([[0.0], [0.7]], dtype=torch.float64))
    assert ((tokens >= 0) & (tokens < SPAN + 5)).all()
    assert drawn.isnan().all()
