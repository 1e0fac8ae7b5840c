import random
from types import SimpleNamespace

import numpy as np
import torch

from fgvr.callbacks.step_seeds import StepSeeds


def drawn(seed: int, epoch: int, batch: int, rank: int) -> tuple[float, float, float]:
    place = SimpleNamespace(current_epoch=epoch, global_rank=rank)
    StepSeeds(seed).on_train_batch_start(place, None, None, batch)  # pyright: ignore[reportArgumentType]
    return torch.rand(1).item(), random.random(), float(np.random.rand())


def test_random_numbers_of_a_step_depend_on_its_place_alone() -> None:
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()
    places = [(0, 0, 0, 0), (0, 0, 1, 0), (0, 1, 0, 0), (0, 0, 0, 1), (1, 0, 0, 0)]
    first = [drawn(*place) for place in places]
    _ = torch.rand(3), random.random(), np.random.rand()
    assert [drawn(*place) for place in reversed(places)] == first[::-1]
    for kind in zip(*first, strict=True):
        assert len(set(kind)) == len(places)
    torch.set_rng_state(state[0])
    random.setstate(state[1])
    np.random.set_state(state[2])
