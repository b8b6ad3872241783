"""The same iteration of GRPO in jitted JAX, in eager PyTorch, and here, in turns.

    python -m pip install jax torch
    python docs/frameworks.py

64 boards × 16 games on 5×5, one hidden layer of 256, one pass of 8 minibatches, float32: the first case of `benchmark`.
Each uses all cores in its own way. JAX compiles the whole iteration, games included, into one program. Its shapes are
fixed, so games that are over stay in it until the last is over; PyTorch takes them out, as this package does.
"""

import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax
from rich.console import Console
from rich.table import Table

from battleship_grpo.game import Rules, all_boards
from battleship_grpo.runs.world import number_of_cores, one_core, spawn
from battleship_grpo.screens.tables import right
from battleship_grpo.study.speed import STANDARD, measure_case

ROUNDS, ITERATIONS = 5, 20  # of each; the median round counts
B, G, M = STANDARD["num_boards"], STANDARD["num_generations"], STANDARD["num_minibatches"]
CELLS, SHIP_CELLS, HIDDEN = 25, 9, 256
EPSILON, BETA, MAX_NORM, RATE, ADAM = 0.2, 0.003, 0.1, 1e-3, {"b1": 0.9, "b2": 0.999, "eps": 1e-8}
BOARDS = all_boards(Rules()).reshape(-1, CELLS)  # to draw from


def first_parameters():
    rng = np.random.default_rng(0)
    return {"W1": rng.normal(0, 0.2, (2 * CELLS, HIDDEN)), "b1": np.zeros(HIDDEN),
            "W2": rng.normal(0, 0.01, (HIDDEN, CELLS)), "b2": np.zeros(CELLS)}


# -------------------------------------------------------------------- JAX


def jax_log_probs(parameters, seen):
    """log π(·|s) (…, A) for what is seen (…, A): 0 fog, −1 miss, +1 hit."""
    x = jnp.concatenate([seen > 0, seen < 0], axis=-1).astype(jnp.float32)
    hidden = jax.nn.relu(x @ parameters["W1"] + parameters["b1"])
    logits = hidden @ parameters["W2"] + parameters["b2"]
    return jax.nn.log_softmax(jnp.where(seen == 0, logits, -1e30))


def jax_play(parameters, boards, key):
    """A game on each board (N, A): what was seen (T, N, A), actions, log π, and whether a shot counts (T, N)."""
    games = jnp.arange(len(boards))

    def shoot(state, key):
        seen, hits = state
        log_probs = jax_log_probs(parameters, seen)
        actions = jax.random.categorical(key, log_probs)
        playing, ship = hits < SHIP_CELLS, boards[games, actions]
        after = seen.at[games, actions].set(jnp.where(ship, 1, -1).astype(jnp.int8))
        record = seen, actions, log_probs[games, actions], playing
        return (jnp.where(playing[:, None], after, seen), hits + (ship & playing)), record

    fresh = jnp.zeros(boards.shape, jnp.int8), jnp.zeros(len(boards), jnp.int32)
    return lax.scan(shoot, fresh, jax.random.split(key, CELLS))[1]


def jax_loss(parameters, seen, actions, old, counts, advantages):
    """Of a minibatch: all (T, n), what is seen (T, n, A), advantages (n,)."""
    new = jnp.take_along_axis(jax_log_probs(parameters, seen), actions[..., None], axis=-1)[..., 0]
    ratio = jnp.exp(new - old)
    surrogate = jnp.minimum(ratio * advantages, jnp.clip(ratio, 1 - EPSILON, 1 + EPSILON) * advantages)
    beyond = -jnp.log((seen == 0).sum(axis=-1)) - new  # log π_ref/π, the reference being uniform play
    kl = jnp.exp(beyond) - 1 - beyond
    return jnp.where(counts, BETA * kl - surrogate, 0).sum() / counts.sum()


def jax_adam(parameters, gradient, moments, steps):
    norm = jnp.sqrt(sum((g**2).sum() for g in gradient.values()))
    gradient = jax.tree.map(lambda g: g * jnp.minimum(1, MAX_NORM / norm), gradient)
    first = jax.tree.map(lambda m, g: ADAM["b1"] * m + (1 - ADAM["b1"]) * g, moments[0], gradient)
    second = jax.tree.map(lambda v, g: ADAM["b2"] * v + (1 - ADAM["b2"]) * g**2, moments[1], gradient)
    rate = RATE / (1 - ADAM["b1"]**steps)
    return jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v / (1 - ADAM["b2"]**steps)) + ADAM["eps"]),
                        parameters, first, second), (first, second)


@partial(jax.jit, donate_argnums=0)
def jax_iteration(state, key):
    """One iteration. Returns the state after it, and how many shots were played."""
    parameters, moments, steps = state
    draw, play = jax.random.split(key)
    boards = jnp.repeat(jnp.asarray(BOARDS)[jax.random.randint(draw, (B,), 0, len(BOARDS))], G, axis=0)
    seen, actions, old, counts = jax_play(parameters, boards, play)
    shots = counts.sum(axis=0).reshape(B, G)
    scores = 1 - (shots - SHIP_CELLS) / (CELLS - SHIP_CELLS + 1)
    centred = scores - scores.mean(axis=1, keepdims=True)
    advantages = (centred / (scores.std(axis=1, ddof=1, keepdims=True) + 1e-4)).reshape(-1)

    def learn(state, minibatch):
        parameters, moments, steps = state
        gradient = jax.grad(jax_loss)(parameters, *minibatch)
        return (*jax_adam(parameters, gradient, moments, steps + 1), steps + 1), None

    columns = [jnp.moveaxis(column.reshape(CELLS, M, -1, *column.shape[2:]), 1, 0)
               for column in (seen, actions, old, counts)]
    return lax.scan(learn, (parameters, moments, steps), (*columns, advantages.reshape(M, -1)))[0], shots.sum()


class Jax:
    def __init__(self):
        parameters = {name: jnp.asarray(array, jnp.float32) for name, array in first_parameters().items()}
        zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)]
        self.state, self.key = (parameters, tuple(zeros), jnp.float32(0)), jax.random.key(0)

    def iteration(self):
        self.key, key = jax.random.split(self.key)
        self.state, shots = jax_iteration(self.state, key)
        return int(shots)


# -------------------------------------------------------------------- PyTorch


class PyTorch:
    def __init__(self):
        torch.manual_seed(0)
        torch.set_num_threads(number_of_cores())
        self.boards = torch.tensor(BOARDS)
        self.network = torch.nn.Sequential(torch.nn.Linear(2 * CELLS, HIDDEN), torch.nn.ReLU(),
                                           torch.nn.Linear(HIDDEN, CELLS))
        with torch.no_grad():
            for own, array in zip(self.network.parameters(), first_parameters().values(), strict=True):
                own.copy_(torch.tensor(array.T))
        self.optimiser = torch.optim.AdamW(self.network.parameters(), RATE, weight_decay=0)

    def log_probs(self, seen):
        logits = self.network(torch.cat([seen > 0, seen < 0], dim=-1).float())
        return torch.log_softmax(logits.masked_fill(seen != 0, -1e30), dim=-1)

    def play(self, boards):
        """The shots of a game on each board, step after step, and what belongs to each; and the games' lengths."""
        games, seen = torch.arange(len(boards)), torch.zeros(boards.shape, dtype=torch.int8)
        records, lengths = [], torch.zeros(len(boards), dtype=torch.int64)
        while len(games):
            log_probs = self.log_probs(seen)
            actions = torch.multinomial(log_probs.exp(), 1)
            records.append((games, seen, actions, log_probs.gather(1, actions)))
            lengths[games] += 1
            ship = boards[games].gather(1, actions)
            seen = seen.scatter(1, actions, 2 * ship.to(torch.int8) - 1)
            playing = (seen > 0).sum(dim=1) < SHIP_CELLS
            games, seen = games[playing], seen[playing]
        return [torch.cat(column) for column in zip(*records, strict=True)], lengths

    def iteration(self):
        with torch.no_grad():
            boards = self.boards[torch.randint(len(self.boards), (B,))].repeat_interleave(G, dim=0)
            (games, seen, actions, old), lengths = self.play(boards)
            scores = (1 - (lengths - SHIP_CELLS) / (CELLS - SHIP_CELLS + 1)).reshape(B, G)
            centred = scores - scores.mean(dim=1, keepdim=True)
            advantages = (centred / (scores.std(dim=1, keepdim=True) + 1e-4)).reshape(-1)
        for minibatch in range(M):
            part = games // (B * G // M) == minibatch
            self.learn(seen[part], actions[part], old[part][:, 0], advantages[games[part]])
        return len(games)

    def learn(self, seen, actions, old, advantages):
        new = self.log_probs(seen).gather(1, actions)[:, 0]
        ratio = (new - old).exp()
        surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - EPSILON, 1 + EPSILON) * advantages)
        beyond = -(seen == 0).sum(dim=1).log() - new
        loss = (BETA * (beyond.exp() - 1 - beyond) - surrogate).mean()
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_NORM)
        self.optimiser.step()


# -------------------------------------------------------------------- in turns


def rate(framework):
    """Shots per second."""
    start = time.perf_counter()
    shots = sum(framework.iteration() for _ in range(ITERATIONS))
    return shots / (time.perf_counter() - start)


def own_rate(world):
    """The same, in one of the processes that train together."""
    with one_core():
        found = measure_case(world, STANDARD | {"rules": "mini", "learning_rate": RATE})
    return found["shots_per_second"]["training"]


def main():
    frameworks = {f"JAX {jax.__version__}, jitted": Jax(), f"PyTorch {torch.__version__}, eager": PyTorch()}
    rates = {name: [] for name in ["NumPy, by hand", *frameworks]}
    for framework in frameworks.values():
        rate(framework)  # compiles, and warms up
    for _ in range(ROUNDS):
        with spawn(number_of_cores(), own_rate) as world:
            rates["NumPy, by hand"].append(own_rate(world))
        for name, framework in frameworks.items():
            rates[name].append(rate(framework))
    table = Table("", *right("thousand shots per second", "NumPy is … times as fast"))
    own = np.median(rates["NumPy, by hand"])
    for name, found in rates.items():
        table.add_row(name, f"{np.median(found) / 1e3:,.0f}", f"{own / np.median(found):.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
