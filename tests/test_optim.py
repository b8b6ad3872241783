"""AdamW to the last digits of torch.optim.AdamW, clipping, schedules."""

import numpy as np
import pytest
from helpers import seeds
from hypothesis import given
from hypothesis import strategies as st

from battleship_grpo.optim import SCHEDULES, SHORTEST_WARMUP, AdamW, clip_by_global_norm, schedule

GRADIENTS = [[0.1, -0.2, 0.0, 3.0], [-0.3, 0.5, 1e-6, -4.0], [0.0, 0.25, -0.1, 1.0]]
PUBLISHED = [  # settings, parameters after each step, as printed by torch.optim.AdamW 2.13 in float64
    (dict(learning_rate=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2),
     [[0.4989950001, -0.99899000005, 1.99998, -0.00099999999666667],
      [0.4994841999612, -0.99942222540217, 1.99922623775, -0.0008064795880775],
      [0.49986121527173, -0.99999136671388, 1.999845053227, -0.00078515970662516]]),
    (dict(learning_rate=0.05, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.3),
     [[0.44299504950495, -0.93524875621891, 1.97, -0.049983338887038],
      [0.463284541001, -0.94573146768407, 1.9404222421001, -0.036711215160344],
      [0.47603921461965, -0.9626172575418, 1.9453501309119, -0.03419629030516]]),
]


@pytest.mark.parametrize(("hyper_parameters", "expected"), PUBLISHED, ids=["defaults", "others"])
def test_adamw_agrees_with_pytorch(hyper_parameters, expected):
    """In however many arrays the parameters are: here a vector and a matrix."""
    params = np.array([0.5, -1.0, 2.0, 0.0])
    optimiser = AdamW([params[:2], params[2:].reshape(1, 2)], **hyper_parameters)
    for gradient, after in zip(GRADIENTS, expected, strict=True):
        optimiser.step([np.array(gradient[:2]), np.array([gradient[2:]])])
        assert params == pytest.approx(after, rel=1e-12)


@given(seeds, st.floats(0.01, 10))
def test_clipping_shortens_and_keeps_the_direction(seed, max_norm):
    gradient = np.random.default_rng(seed).normal(size=8)
    clipped, norm = clip_by_global_norm(gradient, max_norm)
    assert norm == pytest.approx(np.sqrt((gradient**2).sum()))
    assert np.linalg.norm(clipped) == pytest.approx(min(norm, max_norm))
    assert np.allclose(clipped / np.linalg.norm(clipped), gradient / norm)
    assert clip_by_global_norm(gradient, None)[0] is gradient


@given(st.sampled_from(SCHEDULES), st.integers(1, 500), st.floats(0, 0.5))
def test_schedules_climb_then_fall(name, iterations, warmup_ratio):
    """Up step by step for the longer of two warm-ups, from 0 by the clock, then down; "constant" has no warm-up."""
    factors = np.array([schedule(name, i / iterations, i, warmup_ratio, iterations) for i in range(iterations)])
    lasts = max(SHORTEST_WARMUP, warmup_ratio * iterations) if warmup_ratio and name != "constant" else 1
    assert (factors > 0).all() and (factors <= 1).all() and (np.diff(factors[int(lasts) :]) <= 1e-12).all()
    if name.startswith("constant"):
        assert np.allclose(factors, np.minimum(1, (np.arange(iterations) + 1) / lasts))
    assert schedule(name, 0.0, 0, warmup_ratio) == (0 if warmup_ratio and name != "constant" else 1)
    end = schedule(name, 1.0, iterations + SHORTEST_WARMUP, warmup_ratio)
    assert end == (1 if name.startswith("constant") else pytest.approx(0))


@pytest.mark.parametrize("wrong", [dict(learning_rate=-1), dict(eps=0), dict(weight_decay=-1), dict(betas=(1, 0.9))])
def test_hyper_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="AdamW needs"):
        AdamW([np.zeros(1)], **wrong)

