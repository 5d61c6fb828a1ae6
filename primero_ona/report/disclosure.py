"""Which counts may be published how exactly: what an outsider can work out from intervals, by linear programs (HiGHS)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, floor, inf

import highspy
import numpy as np

#: Counts below are never given away.
LIMIT = 5

#: No count is larger.
MOST = 10_000_002

Interval = tuple[int, int]
ANY: Interval = (0, MOST)

#: Where the first steps cut, by which only the size of a count is published; each is an edge of rounding as well.
_CUTS = (LIMIT, *(factor * 10**power + 3 for power in range(1, 7) for factor in (1, 2, 5)))

_EPSILON = 1e-5

#: The primal simplex (4) goes on from the last solution, which another cost leaves possible. What is not found among so many
#: nodes counts as impossible, so that the search ends, alike on every machine, and a count is rather widened than given away.
_OPTIONS = {
    "output_flag": False,
    "threads": 1,
    "simplex_strategy": 4,
    "mip_rel_gap": 0.0,
    "mip_abs_gap": 0.0,
    "mip_max_nodes": 1000,
}

#: How a search ends that was not lost: with counts, without any, or among too many nodes.
_ENDS = frozenset(
    {
        highspy.HighsModelStatus.kOptimal,
        highspy.HighsModelStatus.kInfeasible,
        highspy.HighsModelStatus.kSolutionLimit,
        highspy.HighsModelStatus.kIterationLimit,
    }
)

#: Counts at the least cost by cell; null where none agree with what is known.
_Solve = Callable[[Mapping[int, float]], list[float] | None]


def rounded(count: int) -> Interval:
    """The counts that round to the same multiple of 5; those below 5 are alike."""
    if count < LIMIT:
        return 0, LIMIT - 1
    middle = (count + 2) // 5 * 5
    return max(middle - 2, LIMIT), middle + 2


@dataclass(frozen=True)
class Relation:
    """What everyone knows of counts: the sum of `terms`, each a cell and its factor, is 0, or at most 0."""

    terms: tuple[tuple[int, int], ...]
    equal: bool


class Known:
    """What is known of counts: an interval of each, and relations between them. Intervals become narrower or wider by `put`."""

    def __init__(self, intervals: Sequence[Interval], relations: Sequence[Relation]) -> None:
        self.intervals = list(intervals)
        self._matrix = np.zeros((len(relations), len(intervals)), dtype=np.int64)
        for row, relation in enumerate(relations):
            for cell, factor in relation.terms:
                self._matrix[row, cell] += factor
        self._equal = np.array([relation.equal for relation in relations], dtype=bool)
        self._solver = self._load()

    def _load(self) -> highspy.Highs:
        solver = highspy.Highs()  # type: ignore[no-untyped-call]
        for option, value in _OPTIONS.items():
            solver.setOptionValue(option, value)
        rows, columns = self._matrix.shape
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = columns, rows
        model.col_cost_ = np.zeros(columns)
        model.col_lower_, model.col_upper_ = np.array(self.intervals, dtype=float).reshape(columns, 2).T.copy()
        model.row_lower_ = np.where(self._equal, 0.0, -highspy.kHighsInf)
        model.row_upper_ = np.zeros(rows)
        cells = [np.flatnonzero(row) for row in self._matrix]
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = np.cumsum([0, *map(len, cells)])
        model.a_matrix_.index_ = np.concatenate([*cells, np.array([], dtype=np.int64)])
        model.a_matrix_.value_ = self._matrix[self._matrix != 0].astype(float)
        solver.passModel(model)
        return solver

    def put(self, cell: int, interval: Interval) -> None:
        """Make this the interval of a cell."""
        self.intervals[cell] = interval
        self._solver.changeColBounds(cell, *map(float, interval))

    @contextmanager
    def supposing(self, cell: int, count: int) -> Iterator[None]:
        """Know one count for a while."""
        before = self.intervals[cell]
        self.put(cell, (count, count))
        try:
            yield
        finally:
            self.put(cell, before)

    def possible(self) -> bool:
        """Whether any counts agree with all that is known."""
        return self._solve({}) is not None

    def least(self, cell: int) -> int:
        """The least count that a cell can have."""
        return ceil(self._furthest(cell, 1.0) - _EPSILON)

    def greatest(self, cell: int) -> int:
        """The greatest count that a cell can have."""
        return floor(self._furthest(cell, -1.0) + _EPSILON)

    def _furthest(self, cell: int, cost: float) -> float:
        counts = self._solve({cell: cost})
        if counts is None:
            raise ValueError("what is known contradicts itself")
        return counts[cell]

    def pinned(self, cells: Iterable[int]) -> set[int]:
        """Those of the cells that can have one count only, which is below 5; all where nothing is possible.

        Of whole numbers; where the relations leave more fractions than those, a pinned cell may be missed.
        """
        return self._unmoved(cells, self._solve)

    def unproven(self, cells: Iterable[int]) -> set[int]:
        """Those of the cells without two sets of whole counts that agree with all that is known and differ in the cell.

        A cell that can only have one count of 5 or more is none of them. The sets are found by HiGHS, and proven here.
        """
        return self._unmoved(cells, self._solve_whole)

    def _unmoved(self, cells: Iterable[int], solve: _Solve) -> set[int]:
        seen: dict[int, tuple[float, float]] = {}
        left = {cell for cell in cells if self.intervals[cell][0] < LIMIT}

        def look(costs: Mapping[int, float]) -> None:
            """Solve once, at these costs by cell, and strike from `left` each cell that was seen with two counts."""
            counts = solve(costs)
            if counts is None:
                return
            for cell in sorted(left):
                low, high = seen.get(cell, (inf, -inf))
                low, high = seen[cell] = min(low, counts[cell]), max(high, counts[cell])
                if high > LIMIT - _EPSILON or floor(high + _EPSILON) > ceil(low - _EPSILON):
                    left.discard(cell)

        # Many against many first: most cells move.
        for bit in range(len(self.intervals).bit_length()):
            for cost in (1.0, -1.0):
                look({cell: cost if cell >> bit & 1 else -cost for cell in left})
        for cell in sorted(left):
            for cost in (1.0, -1.0):
                if cell in left:
                    look({cell: cost})
        return left

    def _solve(self, costs: Mapping[int, float]) -> list[float] | None:
        """Counts that agree with all that is known, whole or not, at the least cost; null where there are none."""
        solver = self._solver
        for cell, cost in costs.items():
            solver.changeColCost(cell, cost)
        solver.run()
        if solver.getModelStatus() not in _ENDS:
            # The simplex method may lose its way from the last solution; it finds it from none.
            solver.clearSolver()
            solver.run()
        # Nothing is unbounded.
        found = solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
        counts = list(solver.getSolution().col_value) if found else None
        for cell in costs:
            solver.changeColCost(cell, 0.0)
        return counts

    def _solve_whole(self, costs: Mapping[int, float]) -> list[float] | None:
        """As _solve, but whole counts, which are proven to agree; null where the solver finds none."""
        if (counts := self._proven(self._solve(costs))) is not None:
            return counts
        self._require(highspy.HighsVarType.kInteger)
        try:
            return self._proven(self._solve(costs))
        finally:
            self._require(highspy.HighsVarType.kContinuous)

    def _require(self, kind: highspy.HighsVarType) -> None:
        cells = np.arange(len(self.intervals), dtype=np.int32)
        self._solver.changeColsIntegrality(len(cells), cells, np.full(len(cells), int(kind), dtype=np.uint8))

    def _proven(self, counts: list[float] | None) -> list[float] | None:
        """The counts as whole numbers, if they agree with all that is known, by integer arithmetic."""
        if counts is None:
            return None
        whole = np.rint(counts).astype(np.int64)
        low, high = np.array(self.intervals, dtype=np.int64).T
        sums = self._matrix @ whole
        agree = ((low <= whole) & (whole <= high)).all() and np.where(self._equal, sums == 0, sums <= 0).all()
        return [float(count) for count in whole] if agree else None


def disclose(known: Known, counts: Sequence[int | None], tables: Sequence[Sequence[int]]) -> None:
    """Narrow the intervals of the tables' cells to those that are published; the first tables go first.

    `counts`: the true ones, none where they are not known. Each step cuts one interval, and is decided by what is published
    by then, not by the count: so who knows this algorithm finds out nothing more from where it stopped. No cell is given
    away by them that was not before.
    """
    cells = [cell for table in tables for cell in table]
    if not cells:
        return
    every = range(len(counts))
    lost = known.unproven(every) if len(cells) < len(counts) else set()
    watched = [cell for cell in every if cell not in lost]
    for table in tables:
        for cut in _CUTS:
            for cell in table:
                _halve(known, _true(counts, cell), cell, cut, watched)
        # The smallest last: they give way to the others.
        for cell in sorted(table, key=lambda cell: (-known.intervals[cell][0], cell)):
            _round(known, _true(counts, cell), cell, watched)
    _widen(known, cells, watched)


def _true(counts: Sequence[int | None], cell: int) -> int:
    count = counts[cell]
    if count is None or not 0 <= count <= MOST:
        raise ValueError("no count that can be published")
    return count


def _halve(known: Known, count: int, cell: int, cut: int, watched: Sequence[int]) -> None:
    """Publish whether the count is below `cut`, unless one of the two answers gave something away."""
    low, high = known.intervals[cell]
    if not low < cut <= high:
        return
    # The true count is possible, which spares looking for one as good.
    least = count if count < cut - 1 else known.least(cell)
    greatest = count if count > cut else known.greatest(cell)
    ends = {least} & {cut - 1} | {greatest} & {cut}
    if least >= cut or greatest < cut or not any(_gives_away(known, cell, end, watched) for end in ends):
        known.put(cell, (low, cut - 1) if count < cut else (cut, high))


def _round(known: Known, count: int, cell: int, watched: Sequence[int]) -> None:
    """Publish the rounded count; together with the next one where one of the two would give something away.

    Only the first and the last that are possible can, and only if one of their counts is possible: between them what the other
    cells can be is as wide as a convex set.
    """
    least, greatest = known.least(cell), known.greatest(cell)
    first, last = rounded(least), rounded(greatest)
    joined: list[Interval] = []
    if first != last and first[1] == least and _gives_away(known, cell, least, watched):
        joined.append((first[0], rounded(first[1] + 1)[1]))
    if first != last and last[0] == greatest and _gives_away(known, cell, greatest, watched):
        joined.append((rounded(last[0] - 1)[0], last[1]))
    if len(joined) == 2 and joined[1][0] <= joined[0][1]:
        joined = [(first[0], last[1])]
    own = rounded(count)
    known.put(cell, next((part for part in joined if part[0] <= own[0] and own[1] <= part[1]), own))


def _gives_away(known: Known, cell: int, count: int, watched: Sequence[int]) -> bool:
    with known.supposing(cell, count):
        return bool(known.pinned(watched))


def _widen(known: Known, cells: Sequence[int], watched: Sequence[int]) -> None:
    """Take back the smallest counts while anything is given away: the steps look at fractions, too, and might miss it."""
    left = sorted(cells, key=lambda cell: (known.intervals[cell][1] < LIMIT, known.intervals[cell], cell))
    while left and known.unproven(watched):
        known.put(left.pop(0), ANY)
