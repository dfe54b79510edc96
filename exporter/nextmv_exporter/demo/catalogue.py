"""What the demo's accounts are made of: execution classes, applications, people and places."""

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class ExecutionClass:
    """An execution class and the load on it.

    Attributes:
        name: Nextmv's name for it: cores, memory, longest run time.
        concurrency: How many of its runs may execute at once.
        shortest: Duration of its shortest runs, in seconds.
        usual: Duration of its most common runs, in seconds.
        longest: Duration of its longest runs, in seconds.
        period: Seconds from the start of one wave of runs to the next.
        wave: How much of the period the wave lasts, in seconds.
        rush: Runs that arrive per second during a wave.
        calm: Runs that arrive per second between waves.
    """

    name: str
    concurrency: int
    shortest: float
    usual: float
    longest: float
    period: float
    wave: float
    rush: float
    calm: float

    def arrival_rate(self, elapsed: float) -> float:
        """Return how many runs arrive per second, so many seconds after the first wave began."""
        return self.rush if elapsed % self.period < self.wave else self.calm


# In a wave more runs arrive than the class can execute, so that its queue grows and drains
# within minutes: name, concurrency; shortest, usual, longest; period, wave; rush, calm.
EXECUTION_CLASSES = (
    ExecutionClass("6c9500mb870s", 8, 8, 15, 60, 240, 100, 0.55, 0.03),
    ExecutionClass("8c16gb120m", 4, 20, 40, 150, 420, 180, 0.10, 0.005),
    ExecutionClass("16c60gb30m", 4, 60, 90, 300, 900, 360, 0.024, 0.001),
    ExecutionClass("16c60gb12h", 1, 600, 1200, 2700, 7200, 3600, 0.0007, 0.00005),
)


@dataclass(frozen=True, slots=True)
class Application:
    """A decision application of an account.

    Attributes:
        id: Nextmv's id for it, as in `v1/applications/{id}/runs`.
        created_at: When it was created.
        execution_classes: Names of the execution classes that its runs use.
        subjects: Subjects of its runs; the first half of their names.
    """

    id: str
    created_at: datetime
    execution_classes: tuple[str, ...]
    subjects: tuple[str, ...]


# The oldest first.
APPLICATIONS = (
    Application(
        "delivery-routing",
        datetime(2024, 1, 15, tzinfo=UTC),
        ("6c9500mb870s", "8c16gb120m"),
        ("Morning rounds", "Afternoon rounds", "Re-plan after breakdown"),
    ),
    Application(
        "shift-scheduling",
        datetime(2024, 4, 1, tzinfo=UTC),
        ("6c9500mb870s", "8c16gb120m"),
        ("Next week's roster", "Sick leave cover", "Holiday roster"),
    ),
    Application(
        "production-planning",
        datetime(2024, 7, 15, tzinfo=UTC),
        ("16c60gb30m", "16c60gb12h"),
        ("Four-week plan", "Line 3 changeover", "Overtime scenario"),
    ),
    Application(
        "last-mile-dispatch",
        datetime(2024, 12, 2, tzinfo=UTC),
        ("6c9500mb870s",),
        ("Lunch peak", "Evening peak", "Courier shortfall"),
    ),
    Application(
        "truck-loading",
        datetime(2025, 5, 19, tzinfo=UTC),
        ("8c16gb120m", "16c60gb30m"),
        ("Outbound trailers", "Cross-dock", "Returns"),
    ),
    Application(
        "network-design",
        datetime(2025, 11, 3, tzinfo=UTC),
        ("16c60gb12h",),
        ("Depot closure", "New hub", "Peak season"),
    ),
)

PLACES = ("Rotterdam", "Leipzig", "Lyon", "Gdansk", "Malmo", "Turin", "Ghent", "Bilbao")
PURPOSES = (
    "Submitted by the nightly batch",
    "Requested from the planners' desk",
    "Scenario for the weekly review",
    "Triggered by a change of orders",
)
PEOPLE = ("ines.carvalho", "marek.nowak", "sofia.lindgren", "tom.okafor", "yuki.tanaka")
DOMAINS = ("northwind-logistics.example", "harbour-foods.example", "alpine-parcels.example")
# Repeated ones are chosen more often.
INSTANCES = ("production", "production", "production", "staging", "latest")
PRIORITIES = (1, 3, 6, 6, 6, 6, 6, 6, 6, 9)
