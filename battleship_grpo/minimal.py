"""GRPO whole, in one file: NumPy, the standard library, and nothing else of this package.

    python -m battleship_grpo.minimal

In a minute it learns Battleship on a 5×5 board, only by playing: from 23.4 shots a game (random play) to about 16.
The idea is one number per shot, dL/dlog π. A board is the prompt, a shot is a token, a game is the completion:

    1. Play G games on the same hidden board. The score of each game is its reward, and anyone can verify it.
    2. The advantage A of a game: how much better is its score than the others on this board?
    3. From A, every shot of the game gets one number, dL/dlog π: should it become more likely, or less?
    4. The chain rule takes this number back through softmax and network to the weights. AdamW makes a step.

Symbols as in DeepSeekMath (arXiv 2402.03300, Algorithm 1, equations 3 and 4). Simpler than in the paper: there is no
reward model, because the score is exact; π_ref is random play and never changes; each batch is used once (μ = 1), in 16
steps, so π soon differs from the π_old that played; every shot counts the same, while the paper first takes the mean
over each game. One thing more than in the paper: `symmetric`, which makes one game teach eight.

Shapes stand at the ends of lines: N games side by side, S shots, B boards, 25 cells, H hidden units.
"""

import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # on arrays this small, threads only wait for each other
import numpy as np

SIZE = 5  # the board has 5×5 cells
FLEET = (2, 3, 4)  # lengths of the ships
HIDDEN = 128  # hidden units of the network, a multiple of 8
BOARDS = 128  # boards in a batch
G = 16  # games on each board: a group
MINIBATCHES = 16  # steps of AdamW per batch
EPSILON = 0.2  # the ratio ρ is clipped to 1 ± ε
BETA = 0.003  # weight of the KL penalty
LEARNING_RATE = 0.01  # at the start; it falls to 0
SYMMETRIC = True  # False: plain GRPO, without `symmetric`; it learns much more slowly

CELLS, SHIP_CELLS = SIZE**2, sum(FLEET)
GRID = np.arange(CELLS).reshape(SIZE, SIZE)  # cell numbers, as they lie on the board
TURNS = np.array([np.rot90(grid, turns).reshape(-1) for grid in (GRID, GRID.T) for turns in range(4)])  # (8, 25)
BACK = TURNS.argsort(axis=1)  # (8, 25): each turn undone


# -------------------------------------------------------------------- 1. the game

def all_boards():
    """Every legal placement of the fleet, ship by ship: bool (9024, 25), True where a ship lies."""
    boards = np.zeros((1, CELLS), bool)
    for length in FLEET:
        lines = [*GRID, *GRID.T]  # rows and columns; a ship covers `length` neighbouring cells of one
        cells = np.lib.stride_tricks.sliding_window_view(lines, length, axis=1).reshape(-1, length)
        ships = np.eye(CELLS, dtype=bool)[cells].any(axis=1)  # (ways to place this ship, 25)
        board, ship = np.nonzero(~(boards[:, None] & ships).any(axis=2))  # all pairs of a board and a ship that fit
        boards = boards[board] | ships[ship]
    return boards


def play(parameters, boards, rng=None):
    """Play a game on each of N boards, side by side. Returns, for all S shots: game, observation, action, log π."""
    games, hits = np.arange(len(boards)), np.zeros(len(boards), int)  # (N,)
    observations = np.zeros(boards.shape, np.int8)  # (N, 25): 0 fog, −1 miss, 1 hit
    record = []
    while len(games):
        actions, log_pi = choose(parameters, observations, rng)  # (N,)
        record.append((games, observations.copy(), actions, log_pi))
        rows = np.arange(len(games))
        hit = boards[rows, actions]  # (N,)
        observations[rows, actions] = np.where(hit, 1, -1)
        hits += hit
        on = hits < SHIP_CELLS  # games that are over leave the arrays
        games, boards, observations, hits = games[on], boards[on], observations[on], hits[on]
    return [np.concatenate(column) for column in zip(*record, strict=True)]


# -------------------------------------------------------------------- 2. the policy

def initial_parameters(rng, dtype=np.float32):
    """W1, b1, W2, b2. The last layer is small, so that play starts close to random."""
    W1, W2 = rng.normal(0, 0.5, (2 * CELLS, HIDDEN)), rng.normal(0, 0.01, (HIDDEN, CELLS))
    return [array.astype(dtype) for array in (W1, np.zeros(HIDDEN), W2, np.zeros(CELLS))]


def forward(parameters, observations):
    """log π of every cell, (N, 25), and the input of each layer. Cells fired at get probability exactly 0."""
    W1, b1, W2, b2 = parameters
    inputs = np.concatenate([observations > 0, observations < 0], axis=1).astype(W1.dtype)  # (N, 50): hit | miss
    hidden = inputs @ W1  # (N, H); what follows works in place, for speed
    hidden += b1
    np.maximum(hidden, 0, out=hidden)
    logits = np.where(observations == 0, hidden @ W2 + b2, -np.inf)  # (N, 25)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), (inputs, hidden)


def backward(parameters, layers, d_logits):
    """dL/dparameters from dL/dlogits (S, 25): the chain rule, last layer first."""
    inputs, hidden = layers  # (S, 50), (S, H)
    d_hidden = d_logits @ parameters[2].T  # (S, H), through W2
    d_hidden *= hidden > 0
    return [inputs.T @ d_hidden, d_hidden.sum(axis=0), hidden.T @ d_logits, d_logits.sum(axis=0)]


def choose(parameters, observations, rng=None):
    """An action drawn from π for each game, and its log π: (N,) both. Without rng, the most likely action."""
    log_probs, _ = forward(parameters, observations)  # (N, 25)
    noise = 0 if rng is None else rng.gumbel(size=log_probs.shape)  # with Gumbel noise the highest is a draw from π
    actions = (log_probs + noise).argmax(axis=1)  # (N,)
    return actions, log_probs[np.arange(len(actions)), actions]


def symmetric(parameters):
    """Average over the 8 ways to turn and mirror the board, so that one game teaches as much as eight.

    The hidden units are 8 blocks with the same weights. Block t sees the board after turn t. So undo the turn in the
    weights of each block, take the mean of the 8 blocks, and turn it again for each block. Not part of GRPO.
    """
    if not SYMMETRIC:
        return parameters
    W1, b1, W2, b2 = parameters
    by_cell = np.concatenate([W1, W2.T]).reshape(3, CELLS, 8, -1)  # (hit | miss | logit, 25, 8, H/8)
    block = np.mean([by_cell[:, BACK[t], t] for t in range(8)], axis=0)  # (3, 25, H/8)
    by_cell = np.stack([block[:, TURNS[t]] for t in range(8)], axis=2).reshape(3 * CELLS, -1)  # (75, H)
    b1, b2 = np.tile(b1.reshape(8, -1).mean(axis=0), 8), b2[TURNS].mean(axis=0)
    return [by_cell[: 2 * CELLS], b1, by_cell[2 * CELLS :].T, b2]


# -------------------------------------------------------------------- 3. GRPO

def group_advantages(scores):
    """A = (score − mean of the group) / standard deviation of the group: (B·G,).

    Scores 0.8, 0.4, 0.6, 0.3, 0.4 have mean 0.5 and deviation 0.2 (of n − 1): A = +1.5, −0.5, +0.5, −1, −0.5.
    """
    groups = scores.reshape(-1, G)  # (B, G)
    centred = groups - groups.mean(axis=1, keepdims=True)
    return (centred / (groups.std(axis=1, ddof=1, keepdims=True) + 1e-4)).reshape(-1)


def objective(log_pi, log_pi_old, log_pi_ref, A):
    """The loss of each shot, −min(ρA, clip(ρ, 1−ε, 1+ε)·A) + β·KL, and its slope dL/dlog π: (S,) both."""
    rho = np.exp(log_pi - log_pi_old)  # ρ = π/π_old, so dρ/dlog π = ρ
    clipped = np.clip(rho, 1 - EPSILON, 1 + EPSILON)
    surrogate = np.minimum(rho * A, clipped * A)
    d_surrogate = np.where(rho * A <= clipped * A, rho * A, 0)  # 0 where the clip acts

    d = log_pi - log_pi_ref
    kl = np.exp(-d) + d - 1  # the estimate k3: never negative; its mean over shots from π is KL(π‖π_ref)
    d_kl = 1 - np.exp(-d)
    return BETA * kl - surrogate, BETA * d_kl - d_surrogate


def gradient(parameters, observations, actions, log_pi_old, A):
    """dL/dparameters, and L: the mean loss of S shots. observations (S, 25); actions, log_pi_old, A (S,)."""
    log_probs, layers = forward(parameters, observations)  # (S, 25)
    rows = np.arange(len(actions))
    log_pi = log_probs[rows, actions]  # (S,)
    log_pi_ref = -np.log((observations == 0).sum(axis=1, dtype=log_pi.dtype))  # (S,): uniform over cells in the fog
    loss, d_log_pi = objective(log_pi, log_pi_old, log_pi_ref, A)  # (S,)
    d_log_pi /= len(rows)  # the one number per shot

    d_logits = np.exp(log_probs) * -d_log_pi[:, None]  # (S, 25): dlog π(a)/dlogits = onehot(a) − π
    d_logits[rows, actions] += d_log_pi
    return backward(parameters, layers, d_logits), loss.mean()


# -------------------------------------------------------------------- 4. AdamW

def adamw(parameters, gradients, moments, step, learning_rate, betas=(0.9, 0.99), eps=1e-8, decay=0.01):
    """θ ← θ − η·(m̂ / (√v̂ + ε) + λθ), in place. The moments m and v: running means of the gradient g and of g²."""
    for theta, g, (m, v) in zip(parameters, gradients, moments, strict=True):
        m += (1 - betas[0]) * (g - m)
        v += (1 - betas[1]) * (g * g - v)
        m_hat, v_hat = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
        theta -= learning_rate * (m_hat / (np.sqrt(v_hat) + eps) + decay * theta)


# -------------------------------------------------------------------- 5. training

def train(seconds=60, seed=0, tell=print):
    """Learn for so many seconds, and `tell` every two seconds how it goes. Returns the parameters."""
    rng, boards, start = np.random.default_rng(seed), all_boards(), time.perf_counter()
    parameters = symmetric(initial_parameters(rng))
    moments = [(np.zeros_like(theta), np.zeros_like(theta)) for theta in parameters]
    step, elapsed, next_line = 0, 0, 0
    while elapsed < seconds:
        hidden_boards = boards[rng.integers(len(boards), size=BOARDS)].repeat(G, axis=0)  # (B·G, 25)
        games, observations, actions, log_pi_old = play(parameters, hidden_boards, rng)  # (S, …)
        shots = np.bincount(games)  # (B·G,)
        scores = 1 - (shots - SHIP_CELLS) / (CELLS - SHIP_CELLS + 1)
        A = group_advantages(scores)[games].astype(log_pi_old.dtype)  # (S,)
        for part in np.array_split(rng.permutation(len(A)), MINIBATCHES):
            step += 1
            gradients, _ = gradient(parameters, observations[part], actions[part], log_pi_old[part], A[part])
            adamw(parameters, symmetric(gradients), moments, step, LEARNING_RATE * (1 - elapsed / seconds))
        if elapsed >= next_line:
            tell(f"{elapsed:3.0f} s   {shots.mean():5.2f} shots a game")
            next_line += 2
        elapsed = time.perf_counter() - start
    return parameters


def evaluate(parameters):
    """Mean shots a game, always at the most likely cell. It is exact: all 9,024 boards are played."""
    games, *_ = play(parameters, all_boards())
    return len(games) / (games.max() + 1)


if __name__ == "__main__":
    print(f"{evaluate(train()):.3f} shots a game on all 9,024 boards (random play 23.400, exact Bayesian play 15.552)")
