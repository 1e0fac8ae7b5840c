import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fgvr.objectives import soft_overlong_penalty


def test_by_hand():
    # limit 10, buffer 4: free up to 6 tokens, then a quarter each: (6 - 7) / 4, (6 - 9) / 4, -1 at 10 and beyond
    out = soft_overlong_penalty(torch.tensor([[1, 6, 7], [9, 10, 50]]), limit=10, buffer=4)
    torch.testing.assert_close(out, torch.tensor([[0.0, 0.0, -0.25], [-0.75, -1.0, -1.0]]))


def test_a_buffer_as_long_as_the_limit_costs_from_the_first_token():
    out = soft_overlong_penalty(torch.tensor([0, 1, 4]), limit=4, buffer=4)
    torch.testing.assert_close(out, torch.tensor([0.0, -0.25, -1.0]))


@given(limit=st.integers(1, 300), data=st.data())
def test_it_falls_by_a_buffers_share_per_token_and_only_inside(limit, data):
    buffer = data.draw(st.integers(1, limit))
    lengths = torch.arange(limit + 50)
    out = soft_overlong_penalty(lengths, limit=limit, buffer=buffer)
    slope = out.diff()
    inside = (lengths[1:] > limit - buffer) & (lengths[1:] <= limit)
    torch.testing.assert_close(slope[inside], torch.full((buffer,), -1 / buffer), rtol=0, atol=1e-6)
    assert bool((slope[~inside] == 0).all())
    assert (float(out.max()), float(out.min())) == (0.0, -1.0)


@pytest.mark.parametrize(("limit", "buffer"), [(10, 0), (10, -1), (10, 11), (0, 0)])
def test_a_buffer_outside_the_limit_is_refused(limit, buffer):
    with pytest.raises(ValueError, match="between 1 token and all of the limit"):
        soft_overlong_penalty(torch.tensor([1]), limit=limit, buffer=buffer)
