"""Recently seen groups, so that a drained one is reported as 0 for a while."""

from collections.abc import Iterable

from nextmv_exporter.scrape.summary import Group


class RecentGroups:
    """Record of which groups had runs, and when.

    Args:
        retention: seconds for which a group is kept.
        limit: most groups kept; the least recently seen are dropped first.
    """

    def __init__(self, retention: float, limit: int) -> None:
        self._retention = retention
        self._limit = limit
        self._seen: dict[Group, float] = {}  # least recently seen first

    def at(self, now: float) -> frozenset[Group]:
        """List the groups that are kept.

        Args:
            now: monotonic seconds.

        Returns:
            The groups seen within the retention.
        """
        return frozenset(g for g, seen in self._seen.items() if now - seen <= self._retention)

    def saw(self, groups: Iterable[Group], now: float) -> None:
        """Record groups and drop those not seen for too long.

        Args:
            groups: groups that have runs now.
            now: monotonic seconds.
        """
        for group in groups:
            self._seen.pop(group, None)
            self._seen[group] = now
        remembered = self.at(now)
        surplus = len(remembered) - self._limit
        for group in list(self._seen):
            if group not in remembered:
                del self._seen[group]
            elif surplus > 0:
                del self._seen[group]
                surplus -= 1
