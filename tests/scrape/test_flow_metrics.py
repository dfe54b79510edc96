"""What the metrics of arrivals, starts and departures report of one account."""

from support.outcomes import flowing

from nextmv_exporter.scrape import metrics
from nextmv_exporter.scrape.metrics import Family, Metric, families

LABELS = ("default", "8c16gb120m", "routing")


def family_of(metric: Metric) -> Family:
    [family] = [each for each in families([flowing()]) if each.metric is metric]
    return family


def values(metric: Metric) -> dict[tuple[str, ...], float]:
    return {tuple(each.labels.values()): each.value for each in family_of(metric).samples}


def test_a_run_that_started_is_counted_once_and_entered_or_left_nothing() -> None:
    assert values(metrics.RUNS_STARTED) == {LABELS: 1}
    assert set(values(metrics.RUNS_ENTERED).values()) <= {0}
    assert set(values(metrics.RUNS_LEFT).values()) <= {0}


def test_its_wait_ends_in_the_middle_between_the_scrapes() -> None:
    found = {each.name.rpartition("_")[2]: each for each in family_of(metrics.START_WAIT).samples}
    assert found["count"].value == 1
    assert found["sum"].value == 600 - 15 / 2


def test_the_oldest_running_run_has_an_age() -> None:
    assert values(metrics.OLDEST_RUNNING_AGE) == {LABELS: 600}
