"""Players that know no posterior: random shots, and the classic heuristic."""

from ..backend import array_module
from .player import Player, first_not_empty


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
