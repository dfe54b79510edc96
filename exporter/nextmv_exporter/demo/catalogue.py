"""Content of the demo's accounts: execution classes, applications, people and places.

The execution classes have Nextmv's own names. Their limits and loads are chosen so that queues grow
and drain within minutes: in a wave more runs arrive than the class can execute, between waves
fewer.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExecutionClass:
    """An execution class and the load on it.

    Attributes:
        name: Nextmv's name for it: cores, memory, longest run time.
        concurrency: How many of its runs may execute at once.
        shortest: Duration of its shortest runs, in seconds.
        usual: Duration of its most common runs, in seconds.
        longest: Duration of its longest runs, in seconds.
        period: Seconds from the start of one wave of submissions to the next.
        wave: How much of the period the wave lasts, in seconds.
        rush: Runs submitted per second during a wave.
        calm: Runs submitted per second between waves.
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
        """Return the rate of submissions.

        Args:
            elapsed: Seconds since the start of a wave.

        Returns:
            Runs per second.
        """
        return self.rush if elapsed % self.period < self.wave else self.calm


_MINUTE = 60.0
_HOUR = 60 * _MINUTE

EXECUTION_CLASSES = (
    ExecutionClass(
        name="6c9500mb870s",
        concurrency=8,
        shortest=8,
        usual=15,
        longest=_MINUTE,
        period=4 * _MINUTE,
        wave=100,
        rush=0.55,
        calm=0.03,
    ),
    ExecutionClass(
        name="8c16gb120m",
        concurrency=4,
        shortest=20,
        usual=40,
        longest=2.5 * _MINUTE,
        period=7 * _MINUTE,
        wave=3 * _MINUTE,
        rush=0.10,
        calm=0.005,
    ),
    ExecutionClass(
        name="16c60gb30m",
        concurrency=4,
        shortest=_MINUTE,
        usual=1.5 * _MINUTE,
        longest=5 * _MINUTE,
        period=15 * _MINUTE,
        wave=6 * _MINUTE,
        rush=0.024,
        calm=0.001,
    ),
    ExecutionClass(
        name="16c60gb12h",
        concurrency=1,
        shortest=10 * _MINUTE,
        usual=20 * _MINUTE,
        longest=45 * _MINUTE,
        period=2 * _HOUR,
        wave=_HOUR,
        rush=0.0007,
        calm=0.00005,
    ),
)


@dataclass(frozen=True, slots=True)
class Application:
    """A decision application of the account.

    Attributes:
        id: Nextmv's id for it, as in `v1/applications/{id}/runs`.
        name: Its name in the console.
        description: What it decides.
        created_at: When it was created, in Unix seconds.
        execution_classes: Names of the execution classes that its runs use.
        subjects: Subjects of its runs; the first half of their names.
    """

    id: str
    name: str
    description: str
    created_at: float
    execution_classes: tuple[str, ...]
    subjects: tuple[str, ...]

    @property
    def position(self) -> tuple[float, str]:
        """Its position in listings, which are ordered by age, then id."""
        return self.created_at, self.id


# In the order of their creation: 2024-01-15 to 2025-11-03.
APPLICATIONS = (
    Application(
        id="delivery-routing",
        name="Delivery routing",
        description="Plans the daily rounds of the delivery fleet",
        created_at=1_705_312_800,
        execution_classes=("6c9500mb870s", "8c16gb120m"),
        subjects=("Morning rounds", "Afternoon rounds", "Re-plan after breakdown"),
    ),
    Application(
        id="shift-scheduling",
        name="Shift scheduling",
        description="Assigns warehouse staff to shifts",
        created_at=1_711_963_200,
        execution_classes=("6c9500mb870s", "8c16gb120m"),
        subjects=("Next week's roster", "Sick leave cover", "Holiday roster"),
    ),
    Application(
        id="production-planning",
        name="Production planning",
        description="Schedules packing lines over the coming four weeks",
        created_at=1_721_036_400,
        execution_classes=("16c60gb30m", "16c60gb12h"),
        subjects=("Four-week plan", "Line 3 changeover", "Overtime scenario"),
    ),
    Application(
        id="last-mile-dispatch",
        name="Last-mile dispatch",
        description="Matches couriers to same-day orders",
        created_at=1_733_130_000,
        execution_classes=("6c9500mb870s",),
        subjects=("Lunch peak", "Evening peak", "Courier shortfall"),
    ),
    Application(
        id="truck-loading",
        name="Truck loading",
        description="Packs pallets into trailers",
        created_at=1_747_641_600,
        execution_classes=("8c16gb120m", "16c60gb30m"),
        subjects=("Outbound trailers", "Cross-dock", "Returns"),
    ),
    Application(
        id="network-design",
        name="Network design",
        description="Decides which depots to open and what each serves",
        created_at=1_762_164_000,
        execution_classes=("16c60gb12h",),
        subjects=("Depot closure", "New hub", "Peak season"),
    ),
)

PLACES = ("Rotterdam", "Leipzig", "Lyon", "Gdansk", "Malmo", "Turin", "Ghent", "Bilbao")

PURPOSES = (
    "Submitted by the nightly batch",
    "Requested from the planners' desk",
    "Scenario for the weekly review",
    "Triggered by a change of orders",
)

PEOPLE = ("ines.carvalho", "marek.nowak", "sofia.lindgren", "tom.okafor", "yuki.tanaka", "planning")

DOMAINS = ("northwind-logistics.example", "harbour-foods.example", "alpine-parcels.example")

INSTANCES = ("production", "production", "production", "staging", "latest")
"""Instances that runs are submitted to; repeated entries are chosen more often."""

PRIORITIES = (1, 3, 6, 6, 6, 6, 6, 6, 6, 9)
"""Queuing priorities, 1 highest to 9; repeated ones are chosen more often; the default is 6."""
