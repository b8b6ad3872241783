"""The yardsticks: players that learn nothing, from random shots to the best possible play.

    random       uniform over the legal cells
    hunt_target  the classic heuristic: hunt on a grid, then follow up hits
    density      the most probable cell by an estimated posterior: for boards too large to enumerate
    bayes        the most probable cell by the exact posterior
    optimal      the fewest mean shots that any play can reach

    >>> player = baseline("bayes", Rules(5, (2, 3, 4)))
    >>> player.distribution(observations, legal).greedy()

A player stands in wherever a policy does: `distribution` is a `MaskedSoftmax`, uniform over the cells it likes best.
"""

from functools import lru_cache

import numpy as np

from .backend import array_module, split, to_numpy
from .density import Particles, estimate
from .game import all_boards, placement_count
from .optimal import FOG, costs_of_firing, fewest_shots
from .policy import MaskedSoftmax

MOST_LAYOUTS = 600_000  # for `bayes`: 6×6 with 2,3,4,5 has 428,832
PRODUCT_SIZE = 1_000_000  # elements of observations × layouts at a time: 4 MB


@lru_cache(maxsize=16)
def number_of_layouts(rules):
    """How many legal placements the fleet has; None where they are too many to list."""
    try:
        return len(all_boards(rules))
    except ValueError:
        return None


def too_many_for_bayes(rules):
    return (number_of_layouts(rules) or MOST_LAYOUTS + 1) > MOST_LAYOUTS


def describe(rules):
    """How large the rules are, in words."""
    number = number_of_layouts(rules)
    count = f"{number:,} placements" if number else f"{placement_count(rules):,} placements, overlaps included"
    return f"fleet {','.join(map(str, rules.fleet))} on a {rules.board_size}×{rules.board_size} board has {count}"


class Player:
    """What all players share. A subclass says which cells it likes best, given what it sees."""

    deterministic = True  # among equals it takes the first cell

    def __init__(self, rules, xp=np):
        self.rules = rules
        self.parameters = xp.zeros(0, xp.float32)  # nothing to learn; tells a rollout the array library and the dtype

    def preferred(self, observations, legal):
        """The cells it likes best, all of them legal, at least one per row: bool (N, cells). Here: all alike.

        observations: int8 (N, cells), 0 fog, −1 miss, +1 hit. legal: bool (N, cells), at least one True per row.
        """
        return legal

    def distribution(self, observations, legal, temperature=1.0):
        """π(·|s), uniform over the preferred cells at any temperature."""
        preferred = self.preferred(observations, legal)
        return MaskedSoftmax(array_module(preferred).zeros(preferred.shape, np.float32), preferred, temperature)

    def soft_distribution(self, observations, legal, temperature=1.0):
        """What it teaches: like `distribution`, but where it knows by how much one cell is better, it says so."""
        return self.distribution(observations, legal, temperature)

    def chooser(self, num_games, rng):
        """`choose(observations, legal, games)` → actions (n,), for `num_games` games played side by side.

        games: int (n,), which of the games each row is, for a player that remembers. Games that are over drop out.
        """
        def choose(observations, legal, games):
            distribution = self.distribution(observations, legal)
            if self.deterministic:
                return distribution.greedy()
            return distribution.sample(rng.random(len(legal), dtype=np.float32))

        return choose


def best(values, legal):
    """The legal cells with the highest value of their row, values ≥ 0: bool (N, cells)."""
    values = array_module(values).where(legal, values, -1)
    return values == values.max(axis=1, keepdims=True)


def first_not_empty(*choices):
    """Row by row the first of some bool (N, cells) with a True in it, else the last."""
    xp = array_module(choices[0])
    result = choices[-1]
    for choice in reversed(choices[:-1]):
        result = xp.where(choice.any(axis=1, keepdims=True), choice, result)
    return result


# ------------------------------------------------------------------------------------- without a posterior


class Random(Player):
    """Any legal cell."""

    name = "random"
    deterministic = False


class HuntTarget(Player):
    """Hunt on a grid that no ship can slip through; after a hit fire around it; once two hits align, along their line.

    The grid is every k-th diagonal, k the length of the smallest ship: the checkerboard for 2.
    """

    name = "hunt_target"
    deterministic = False

    def preferred(self, observations, legal):
        xp, size = array_module(observations), self.rules.board_size
        hits = xp.pad((observations > 0).reshape(-1, size, size), ((0, 0), (2, 2), (2, 2)))

        def hit_at(rows, columns):
            """Is there a hit so many rows and columns away? bool (N, cells); none beyond the edge."""
            return hits[:, 2 + rows : 2 + rows + size, 2 + columns : 2 + columns + size].reshape(-1, size**2)

        directions = (0, 1), (1, 0), (0, -1), (-1, 0)
        beside = sum(hit_at(r, c) for r, c in directions) > 0
        in_line = sum(hit_at(r, c) & hit_at(2 * r, 2 * c) for r, c in directions) > 0
        rows, columns = xp.divmod(xp.arange(size**2), size)
        grid = (rows + columns) % min(self.rules.fleet) == 0
        return first_not_empty(legal & in_line, legal & beside, legal & grid, legal)


# ------------------------------------------------------------------------------------- by posterior


class Bayes(Player):
    """The cell most likely to hold a ship, by the exact posterior over all placements of the fleet.

    A layout, a set of ship cells, is consistent when it covers all hits and no miss. With sets of cells written as the
    bits of whole numbers, that is one comparison, and a product of its outcome with the layouts adds up their cells:

        consistent = (layout & fired == hits)        posterior = mean of consistent layouts

    Layouts count as often as there are placements that cover them; all numbers are whole, and exact in float32.
    """

    name = "bayes"

    def __init__(self, rules, xp=np):
        super().__init__(rules, xp)
        if too_many_for_bayes(rules):
            raise ValueError(f"bayes enumerates up to {MOST_LAYOUTS:,} placements; {describe(rules)}: "
                             "density can run instead")
        layouts = all_boards(rules)
        first, kinds = distinct(layouts)
        times = np.bincount(kinds)[:, None]
        self.layouts = bits(xp.asarray(layouts[first]))
        self.counted = xp.asarray(np.concatenate([layouts[first] * times, times], axis=1), xp.float32)

    def counts(self, observations):
        """How many consistent placements cover each cell, and in the last column how many there are: (N, cells + 1).

        Games on the same observation, as all are at first, share the work.
        """
        xp = array_module(observations)
        first, kinds = distinct(observations)
        seen = observations[first]
        fired, hits = bits(seen != 0), bits(seen > 0)
        counts = xp.empty((len(seen), self.rules.cells + 1), np.float32)
        for part in split(len(seen), -(-len(seen) * len(self.counted) // PRODUCT_SIZE)):
            consistent = xp.ones((part.stop - part.start, len(self.counted)), bool)
            for layouts, shots, hit in zip(self.layouts, fired, hits, strict=True):
                consistent &= (layouts & shots[part, None]) == hit[part, None]
            counts[part] = consistent.astype(np.float32) @ self.counted
        return counts[kinds]

    def posterior(self, observations):
        """P(the cell holds a ship | hits and misses): float32 (N, cells). All 0 if no placement agrees with them."""
        counts = self.counts(observations)
        return counts[:, :-1] / counts[:, -1:].clip(1)

    def preferred(self, observations, legal):
        return best(self.counts(observations)[:, :-1], legal)

    def soft_distribution(self, observations, legal, temperature=1.0):
        """In proportion to the posterior to the power 1/temperature; as it decreases to 0, the cells it likes best."""
        xp = array_module(observations)
        return MaskedSoftmax(xp.log(self.posterior(observations).clip(1e-9)), legal, temperature)


def bits(cells):
    """Sets of cells, bool (N, cells), as the bits of whole numbers: for every 32 cells an array uint32 (N,)."""
    words = [cells[:, start : start + 32].astype(np.float64) for start in range(0, cells.shape[1], 32)]
    powers = 2.0 ** array_module(cells).arange(32)
    return [(word @ powers[: word.shape[1]]).astype(np.uint32) for word in words]


def distinct(rows):
    """Which rows of −1, 0, 1 differ: the index of the first of each kind, and the kind of each row, int (N,).

    Rows are read as numbers to the base 3, as many digits at a time as fit into 64 bits.
    """
    xp, digits = array_module(rows), 39
    kinds = xp.zeros(len(rows), xp.int64)
    for start in range(0, rows.shape[1], digits):
        some = rows[:, start : start + digits].astype(xp.int64)
        numbers = (some * 3 ** xp.arange(some.shape[1])).sum(axis=1)
        numbers = xp.unique(numbers, return_inverse=True)[1]
        _, first, kinds = xp.unique(kinds * len(rows) + numbers, return_index=True, return_inverse=True)
    return first, kinds


class Density(Player):
    """The cell most likely to hold a ship by an estimate, for rules with too many placements to list (see `density`).

    `chooser` keeps 100 particles for each game and is what plays well and fast; `distribution`, which knows only the
    position, has to build them up from nothing, takes ten times as long and is less exact.
    """

    name = "density"
    deterministic = False  # a chooser depends on its random numbers

    def preferred(self, observations, legal):
        rng = array_module(observations).random.default_rng(0)
        return best(estimate(self.rules, observations, rng), legal)

    def chooser(self, num_games, rng):
        particles = Particles(self.rules, num_games, rng)

        def choose(observations, legal, games):
            return best(particles.density(observations, games), legal).argmax(axis=1)

        return choose


# ------------------------------------------------------------------------------------- the limit


class Optimal(Player):
    """The play with the fewest mean shots, from any position (see `optimal`). Boards up to 4×4, on the host."""

    name = "optimal"

    def __init__(self, rules, xp=np):
        super().__init__(rules, xp)
        try:
            costs = fewest_shots(rules)
        except ValueError as error:
            possible = Density.name if too_many_for_bayes(rules) else Bayes.name
            raise ValueError(f"{error}; {describe(rules)}: {possible} can run instead") from None
        self.exact_mean_shots = float(costs[(FOG,) * rules.cells] / len(all_boards(rules)))

    def preferred(self, observations, legal):
        costs = array_module(legal).asarray(costs_of_firing(self.rules, to_numpy(observations)))
        return best(costs.max() - costs, legal)


BASELINES = {player.name: player for player in (Random, HuntTarget, Density, Bayes, Optimal)}


def baseline(name, rules, xp=np):
    """The player of that name. Raises ValueError, in one line, for an unknown one or rules that it cannot do."""
    if name not in BASELINES:
        raise ValueError(f"unknown baseline {name!r}: choose one of {', '.join(BASELINES)}")
    return BASELINES[name](rules, xp)
