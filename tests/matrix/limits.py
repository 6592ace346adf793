"""The cells that cannot work, each with its reason. What is not named here must work; what is named must not.

The first rule that fits a cell counts. Reasons speak of the protocol, not of us.
"""

from dataclasses import dataclass

from clients import Way


@dataclass(frozen=True)
class Limit:
    """Cells that cannot work: rows, clients and upstreams; an empty set means all."""

    reason: str
    rows: frozenset[str]
    ways: frozenset[str] = frozenset()
    upstreams: frozenset[str] = frozenset()

    def fits(self, row: str, way: Way, upstream: str) -> bool:
        return (
            row in self.rows
            and (not self.ways or way.title in self.ways)
            and (not self.upstreams or upstream in self.upstreams)
        )


LIMITS = [
    Limit(
        "Revisions before 2025-06-18 have no elicitation, so such a client cannot be asked.",
        rows=frozenset({"elicitation"}),
        ways=frozenset({"SSE 2024-11-05", "HTTP 2025-03-26"}),
    ),
]


def limit(row: str, way: Way, upstream: str) -> int | None:
    """Which rule says that a cell cannot work."""
    return next((number for number, rule in enumerate(LIMITS) if rule.fits(row, way, upstream)), None)
