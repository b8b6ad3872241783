"""GRPO whole, in one file: NumPy, the standard library, and nothing else of this package.

    python -m battleship_grpo.minimal

It learns Battleship on a 5×5 board by playing, in a minute: from 23.4 shots a game, which is random play, to about 16.

The idea is *one number per shot*. A language model is a policy over tokens; here it is a policy over cells:

    prompt → hidden board     token → shot     completion → game     verifiable reward → score of the game

    1. Play G games on the same board, and score each of them.
    2. A game's advantage A says how much better it went than the other games on its board.
    3. Every shot of the game gets one number from A, the slope dL/dlog π(shot): make this shot more or less likely.
    4. The chain rule carries that number through softmax and network to the weights, and AdamW takes a step.

Symbols are those of DeepSeekMath (arXiv 2402.03300, Algorithm 1, equations 3 and 4). Simpler than in the paper: the
score is exact, so there is no reward model; π_ref is random play, and stays so; each batch is learned from once
(μ = 1); and every shot counts the same, where the paper takes the mean over each game first.

Shapes stand at the ends of lines: N games side by side, S shots to learn from, 25 cells, H hidden units.
"""

import math
import time
from functools import partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

SIZE = 5  # the board is 5×5
FLEET = (2, 3, 4)  # lengths of the ships
HIDDEN = 128  # hidden units of the network, a multiple of 8

BOARDS = 128  # boards per batch
G = 16  # games per board: a group
MINIBATCHES = 16  # steps of AdamW per batch
EPSILON = 0.2  # clip: how far the ratio ρ may move from 1
BETA = 0.003  # weight of the KL penalty
LEARNING_RATE = 0.012  # at its highest
MAX_NORM = 0.1  # a longer gradient is cut to this length

CELLS, SHIP_CELLS = SIZE**2, sum(FLEET)
GRID = np.arange(CELLS).reshape(SIZE, SIZE)  # the numbers of the cells, as they lie on the board
TURNS = np.array([np.rot90(grid, turns).reshape(-1) for grid in (GRID, GRID.T) for turns in range(4)])  # (8, 25)


# ------------------------------------------------------------------------------------- 1. the game


def placements(length):
    """Every way to lay one ship: bool (placements, 25)."""
    lines = np.concatenate([GRID, GRID.T])  # (10, 5): rows and columns
    cells = sliding_window_view(lines, length, axis=1).reshape(-1, length)  # (placements, length)
    return np.eye(CELLS, dtype=bool)[cells].any(axis=1)


def all_boards():
    """Every legal way to lay the fleet, ship after ship without overlap: bool (9024, 25)."""
    boards = np.zeros((1, CELLS), bool)
    for length in FLEET:
        ships = placements(length)
        board, ship = np.nonzero(~(boards[:, None] & ships).any(axis=2))
        boards = boards[board] | ships[ship]
    return boards


def play(boards, choose):
    """Play one game on each board (N, 25), all side by side. A game that is over leaves the arrays.

    choose(observations) → actions (N,), log_probs (N,). An observation holds 0 for fog, −1 for a miss, 1 for a hit.
    Returns a column for each thing to know about the S shots: games, observations, actions, log_probs.
    """
    games, hits = np.arange(len(boards)), np.zeros(len(boards), int)  # (N,)
    observations = np.zeros(boards.shape, np.int8)  # (N, 25)
    record = []
    while len(games):
        actions, log_probs = choose(observations)  # (N,)
        record.append((games, observations.copy(), actions, log_probs))
        rows = np.arange(len(games))
        hit = boards[rows, actions]  # (N,)
        observations[rows, actions] = np.where(hit, 1, -1)
        hits = hits + hit
        going_on = hits < SHIP_CELLS
        games, boards, observations, hits = (x[going_on] for x in (games, boards, observations, hits))
    return [np.concatenate(column) for column in zip(*record, strict=True)]


def score(shots):
    """The reward for a game of so many shots: 1 without a miss, 1/17 with the most misses."""
    return 1 - (shots - SHIP_CELLS) / (CELLS - SHIP_CELLS + 1)


# ------------------------------------------------------------------------------------- 2. the policy


def initial_parameters(rng, dtype=np.float32):
    """W1, b1, W2, b2. The last layer is small, so the first games are close to random play."""
    W1, W2 = rng.normal(0, 0.5, (2 * CELLS, HIDDEN)), rng.normal(0, 0.01, (HIDDEN, CELLS))
    return [parameter.astype(dtype) for parameter in (W1, np.zeros(HIDDEN), W2, np.zeros(CELLS))]


def forward(parameters, observations):
    """log π(·|s) of each cell, (N, 25), and the inputs of both layers. A cell fired at gets probability exactly 0."""
    W1, b1, W2, b2 = parameters
    inputs = np.concatenate([observations > 0, observations < 0], axis=1).astype(W1.dtype)  # (N, 50): hit | miss
    hidden = inputs @ W1  # (N, H)
    hidden += b1  # in place: these arrays are large
    np.maximum(hidden, 0, out=hidden)
    logits = np.where(observations == 0, hidden @ W2 + b2, -np.inf)  # (N, 25)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), (inputs, hidden)


def backward(parameters, layers, d_logits):
    """dL/dparameters from dL/dlogits (S, 25): the chain rule, last layer first."""
    (inputs, hidden), W2 = layers, parameters[2]
    d_hidden = d_logits @ W2.T  # (S, H)
    d_hidden *= hidden > 0
    return [inputs.T @ d_hidden, d_hidden.sum(axis=0), hidden.T @ d_logits, d_logits.sum(axis=0)]


def sample(parameters, observations, rng):
    """Draw a cell from π for each game: the first where the running sum of probabilities reaches a random height."""
    log_probs, _ = forward(parameters, observations)
    running = np.exp(log_probs).cumsum(axis=1)  # (N, 25)
    height = (1 - rng.random((len(running), 1))) * running[:, -1:]  # (N, 1), above 0
    actions = (running >= height).argmax(axis=1)  # (N,)
    return actions, log_probs[np.arange(len(actions)), actions]


def greedy(parameters, observations):
    """The most likely cell for each game."""
    log_probs, _ = forward(parameters, observations)
    return log_probs.argmax(axis=1), log_probs.max(axis=1)


def symmetric(parameters):
    """Average over the 8 ways to turn and mirror the board. Not part of GRPO, but it learns several times faster.

    Hidden units stand in 8 blocks, and block j sees the board as block 0 would see it in position j. Parameters that
    start symmetric stay so if every gradient is made symmetric.
    """
    W1, b1, W2, b2 = parameters
    return [alike(W1), np.tile(b1.reshape(8, -1).mean(axis=0), 8), alike(W2.T).T, b2[TURNS].mean(axis=0)]


def alike(weights):
    """`symmetric` for weights between cells and hidden units: (25, H), or (50, H) for two planes of cells."""
    blocks = weights.reshape(-1, CELLS, 8, HIDDEN // 8)  # (planes, 25, 8, H/8)
    upright = blocks[:, TURNS.argsort(axis=1).T, range(8)].mean(axis=2)  # (planes, 25, H/8): each block turned back
    return upright[:, TURNS.T].reshape(weights.shape)


# ------------------------------------------------------------------------------------- 3. GRPO


def group_advantages(scores):
    """A = (score − mean of the group) / (standard deviation of the group), for each game."""
    groups = scores.reshape(-1, G)  # (B, G)
    centred = groups - groups.mean(axis=1, keepdims=True)
    return (centred / (groups.std(axis=1, ddof=1, keepdims=True) + 1e-4)).reshape(-1)  # (B·G,)


def objective(log_pi, log_pi_old, log_pi_ref, A):
    """L = −min(ρA, clip(ρ, 1−ε, 1+ε)·A) + β·KL for each shot, and its slope dL/dlog π: (S,) both."""
    rho = np.exp(log_pi - log_pi_old)  # ρ = π/π_old; dρ/dlog π = ρ
    clipped = np.clip(rho, 1 - EPSILON, 1 + EPSILON)
    surrogate = np.minimum(rho * A, clipped * A)
    d_surrogate = np.where(rho * A <= clipped * A, rho * A, 0)  # a clipped shot has slope 0

    d = log_pi - log_pi_ref
    kl = np.exp(-d) + d - 1  # never negative, on average KL(π‖π_ref)
    d_kl = 1 - np.exp(-d)
    return BETA * kl - surrogate, BETA * d_kl - d_surrogate


def gradient(parameters, observations, actions, log_pi_old, A):
    """dL/dparameters and L, the mean over S shots. observations (S, 25); actions, log_pi_old, A (S,)."""
    log_probs, layers = forward(parameters, observations)  # (S, 25)
    shots = np.arange(len(actions))
    log_pi = log_probs[shots, actions]  # (S,)
    log_pi_ref = -np.log((observations == 0).sum(axis=1, dtype=log_pi.dtype))  # (S,): all cells not fired at alike
    loss, d_log_pi = objective(log_pi, log_pi_old, log_pi_ref, A)  # (S,)
    d_log_pi /= len(shots)  # the one number per shot

    d_logits = np.exp(log_probs) * -d_log_pi[:, None]  # (S, 25): dlog π(a)/dlogits = onehot(a) − π
    d_logits[shots, actions] += d_log_pi
    return backward(parameters, layers, d_logits), loss.mean()


# ------------------------------------------------------------------------------------- 4. AdamW


class AdamW:
    """θ ← θ − η·(m̂ / (√v̂ + ε) + λ·θ), with m and v running means of the gradient and of its square."""

    def __init__(self, parameters, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        self.parameters, self.betas, self.eps, self.weight_decay, self.steps = parameters, betas, eps, weight_decay, 0
        self.m, self.v = ([np.zeros_like(theta) for theta in parameters] for _ in range(2))

    def step(self, gradients, learning_rate):
        """Change the parameters in place."""
        self.steps += 1
        beta_1, beta_2 = self.betas
        for theta, g, m, v in zip(self.parameters, gradients, self.m, self.v, strict=True):
            m += (1 - beta_1) * (g - m)
            v += (1 - beta_2) * (g * g - v)
            m_hat, v_hat = m / (1 - beta_1**self.steps), v / (1 - beta_2**self.steps)
            theta -= learning_rate * (m_hat / (np.sqrt(v_hat) + self.eps) + self.weight_decay * theta)


def cut_to_length(gradients):
    """The gradient, all arrays together, no longer than MAX_NORM."""
    norm = math.sqrt(sum((g * g).sum() for g in gradients))
    return [g * (MAX_NORM / max(norm, MAX_NORM)) for g in gradients]


# ------------------------------------------------------------------------------------- 5. training


def train(seconds=60, seed=0):
    """Learn for so many seconds. Yields after every batch: seconds so far, games, mean shots a game, parameters."""
    rng, boards, start = np.random.default_rng(seed), all_boards(), time.perf_counter()
    parameters = symmetric(initial_parameters(rng))
    optimiser, games_played, done = AdamW(parameters), 0, 0.0  # done: share of the time
    while done < 1:
        hidden_boards = boards[rng.integers(len(boards), size=BOARDS)].repeat(G, axis=0)  # (B·G, 25)
        games, *columns = play(hidden_boards, partial(sample, parameters, rng=rng))  # (S, …), from π_old
        shots = np.bincount(games)  # (B·G,)
        advantages = group_advantages(score(shots)).astype(np.float32)[games]  # (S,)
        for part in np.array_split(rng.permutation(len(games)), MINIBATCHES):
            observations, actions, log_pi_old, A = (column[part] for column in (*columns, advantages))
            gradients, _ = gradient(parameters, observations, actions, log_pi_old, A)
            done = (time.perf_counter() - start) / seconds
            optimiser.step(cut_to_length(symmetric(gradients)), LEARNING_RATE * schedule(done))
        games_played += len(shots)
        yield done * seconds, games_played, shots.mean(), parameters


def schedule(done):
    """The factor on the learning rate: up from 0 over the first 2% of the time, then down to 0 along a line."""
    return max(0.0, min(done / 0.02, (1 - done) / 0.98))


def mean_shots(parameters):
    """Shots a game of the most likely play, exact: the mean over all boards."""
    boards = all_boards()
    games, *_ = play(boards, partial(greedy, parameters))
    return len(games) / len(boards)


def main():
    next_line = 0
    for seconds, games, shots, parameters in train():
        if seconds >= next_line:
            print(f"{seconds:4.0f} s {games:9,} games {shots:6.2f} shots a game", flush=True)
            next_line += 2
    print(f"\nThe most likely shot every time, on all 9,024 boards: {mean_shots(parameters):.3f} shots a game\n"
          "Random play: 23.4. Exact Bayesian play: 15.552.")


if __name__ == "__main__":
    main()
