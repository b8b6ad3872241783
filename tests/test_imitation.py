"""Learning from a teacher: the replay buffer, the lessons, and runs from runs."""

import numpy as np
import pytest
from helpers import played, random_positions, seeds, small_learner
from hypothesis import given
from hypothesis import strategies as st

from battleship_grpo import train
from battleship_grpo.algorithms.imitation import ReplayBuffer
from battleship_grpo.env import BattleshipEnv
from battleship_grpo.game import NAMED_RULES, Rules
from battleship_grpo.optim import symmetrise
from battleship_grpo.players import find_player
from battleship_grpo.players.evaluation import Trained
from battleship_grpo.policy import MLPPolicy
from battleship_grpo.runs.assembly import build, make_policy
from battleship_grpo.runs.settings import make_settings


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(1, 40), seeds)
def test_the_buffer_holds_exactly_the_newest_shots(added, capacity, seed):
    """However they come: fewer and more at once than it can hold. Samples are of all these and no others.

    2000 draws from at most 40 shots miss one of them with a probability below 40 · (39/40)²⁰⁰⁰ < 1e-20.
    """
    columns = {"legal": np.zeros((capacity, 2), int), "number": np.zeros(capacity, int)}
    total = 0
    buffer = ReplayBuffer(columns)
    for count in added:
        numbers = np.arange(total, total + count)
        buffer.add(legal=np.stack([numbers, numbers], axis=1), number=numbers)
        total += count
        newest = set(range(max(0, total - capacity), total))
        assert set(buffer.columns["number"][: min(total, capacity)].tolist()) == newest
        sampled = buffer.sample(2000, np.random.default_rng(seed))
        assert set(sampled["number"].tolist()) == newest
        assert (sampled["legal"] == sampled["number"][:, None]).all()  # shots stay whole


@given(seeds)
def test_bayes_teaches_its_posterior_and_as_it_cools_its_preferred_cells(seed):
    rules = NAMED_RULES["tiny"]
    player = find_player("bayes", rules)
    observations = random_positions(rules, 60, np.random.default_rng(seed))
    observations = observations[(observations > 0).sum(axis=1) < 5]  # where ships are left
    legal = observations == 0
    posterior = np.where(legal, player.posterior(observations), 0)
    soft = player.soft_distribution(observations, legal)
    assert np.allclose(soft.probs, posterior / posterior.sum(axis=1, keepdims=True), atol=1e-5)
    cold = player.soft_distribution(observations, legal, 1e-5).probs
    preferred = player.preferred(observations, legal)
    assert np.allclose(cold, preferred / preferred.sum(axis=1, keepdims=True), atol=1e-3)


@pytest.mark.parametrize(("lmbda", "own"), [(0.0, 0), (0.25, 2), (1.0, 8)])
def test_lambda_is_the_share_of_boards_that_the_student_plays(lmbda, own):
    learner = small_learner("sft", np.random.default_rng(0), lmbda=lmbda, num_boards=8, num_generations=2,
                            temperature=1.0)
    rollout = learner.play_games(np.random.default_rng(0))
    again = learner.policy.distribution(rollout.observations, rollout.legal).log_prob(rollout.actions)
    by_student = np.isclose(again, rollout.log_probs, atol=1e-6)
    first = int(rollout.first_shots[own])
    assert rollout.num_boards == 8 and by_student[:first].all()
    assert own == 8 or by_student[first:].mean() < 0.5


def test_offline_it_is_the_students_own_play_that_is_shown():
    """Untrained it takes 23.4 shots, its teacher 18.6. Six deviations of the mean of 64 games, 1.9 each."""
    settings = make_settings(algorithm="sft", teacher="hunt_target", lmbda=0.0, num_boards=64, num_minibatches=2)
    rollout = build(settings).play_games(np.random.default_rng(0))
    assert rollout.measured["shots"] == rollout.num_shots < 20 * rollout.num_games
    assert rollout.measured["mean_shots"] == pytest.approx(23.4, abs=6 * 1.9 / 8)


def test_lessons_stay_with_their_positions():
    """Every shot bears the lesson of what is seen there. A policy teaches its own probabilities."""
    learner, batch = played("distill", teacher_temperature=0.5)
    expected = learner.teacher.soft_distribution(batch.observations, batch.legal, 0.5).probs
    assert np.allclose(batch.teacher_probs, expected)
    seen, policy = (batch.observations, batch.legal), learner.policy
    taught = Trained("policy", policy).soft_distribution(*seen, 2.0)
    assert (taught.probs == policy.distribution(*seen, 2.0).probs).all()


TINY = ["--rules", "tiny", "--hidden-sizes", "16", "--iterations", "2", "--num-boards", "8", "--num-minibatches", "2",
        "--processes", "1"]


def test_imitate_reinforce_distil_in_three_commands(tmp_path):
    """As a reasoning model in miniature: each run takes up what the one before left."""
    sft, grpo, distilled = (str(tmp_path / name) for name in ("sft", "grpo", "distilled"))
    assert train.main([*TINY, "--algorithm", "sft", "--teacher", "hunt_target", "--output-dir", sft]) == 0
    assert train.main([*TINY, "--init", sft, "--beta", "0.01", "--reference", sft, "--output-dir", grpo]) == 0
    small = [*TINY[:2], "--hidden-sizes", "8", *TINY[4:]]
    assert train.main([*small, "--algorithm", "distill", "--teacher", grpo, "--output-dir", distilled]) == 0
    assert MLPPolicy.load(tmp_path / "distilled" / "policy.npz").network.hidden_sizes == (8,)


def saved(path, **changes):
    """The file of a random policy for `tiny`."""
    shape = {"hidden_sizes": (16,), "activation": "relu", "encoding": "planes", "equivariant": True} | changes
    rules = shape.pop("rules", NAMED_RULES["tiny"])
    MLPPolicy(rules.cells, rules.cells, rules=rules, rng=np.random.default_rng(5), **shape).save(path)
    return str(path)


def test_a_run_starts_from_the_policy_that_init_names(tmp_path):
    path = saved(tmp_path / "policy.npz")
    assert train.main([*TINY, "--iterations", "0", "--init", path, "--output-dir", str(tmp_path / "run")]) == 0
    one = MLPPolicy.load(path)
    other = MLPPolicy.load(tmp_path / "run" / "policy.npz")
    assert (one.parameters == other.parameters).all()
    settings = make_settings(rules="tiny", hidden_sizes=(16,), init=path)
    tied = make_policy(settings, BattleshipEnv(one.rules))
    orbits = tied.network.orbits
    assert orbits is not None and (symmetrise(tied.parameters, orbits) == one.parameters).all()


@pytest.mark.parametrize(("changes", "says"), [
    ({"hidden_sizes": (16, 8)}, "add --hidden-sizes 16,8"), ({"encoding": "signed"}, "add --encoding signed"),
    ({"equivariant": False}, "--no-equivariant"), ({"rules": Rules(4, (2, 2))}, "4x4, fleet 2,2, not 4x4, fleet 2,3"),
])
def test_init_from_a_policy_of_another_kind_is_refused_in_one_line(changes, says, tmp_path, refusal):
    path = saved(tmp_path / "policy.npz", **changes)
    asked = [*TINY, "--activation", "relu", "--encoding", "planes"]  # else it takes over what it finds
    assert says in refusal(train.main, *asked, "--init", path, "--output-dir", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("teacher", "says"), [
    ("nobody", "neither a run folder"), ("optimal", "optimal"), ("policy.npz", "5x5"),
])
def test_a_teacher_that_cannot_teach_these_rules_is_refused(teacher, says, tmp_path, refusal, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "policy.npz")
    options = ["--algorithm", "sft", "--teacher", teacher, "--iterations", "1", "--processes", "1"]
    assert says in refusal(train.main, *options, "--output-dir", "run")
    assert not (tmp_path / "run").exists()
