"""The cells that cannot work, each with its reason. What is not named here must work; what is named must not.

The first rule that fits a cell counts. Reasons speak of the protocol, not of us.
"""

from dataclasses import dataclass

from clients import WAYS, Way

LEGACY = frozenset(way.title for way in WAYS if not way.is_modern)
MODERN = frozenset(way.title for way in WAYS if way.is_modern)
ASKING = frozenset({"elicitation", "sampling", "roots"})


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
    Limit(
        "Not translated yet: a legacy server asks in the middle of a call, where a modern client is to be called back.",
        rows=ASKING,
        ways=MODERN,
        upstreams=frozenset({"legacy, HTTP", "legacy, HTTP+SSE", "legacy, stdio"}),
    ),
    Limit(
        "Not translated yet: a modern server answers `input_required`, where a legacy client is to be asked in the middle.",
        rows=ASKING,
        ways=LEGACY,
        upstreams=frozenset({"modern"}),
    ),
    Limit(
        "Not translated yet: `notifications/cancelled` of a legacy client, where a modern server is to be hung up on.",
        rows=frozenset({"cancel"}),
        ways=LEGACY,
        upstreams=frozenset({"modern"}),
    ),
]


def limit(row: str, way: Way, upstream: str) -> int | None:
    """Which rule says that a cell cannot work."""
    return next((number for number, rule in enumerate(LIMITS) if rule.fits(row, way, upstream)), None)
