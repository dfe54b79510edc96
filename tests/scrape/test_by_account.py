from collections.abc import Iterable

import pytest
from prometheus_client import Counter
from prometheus_client.core import Metric

from nextmv_exporter.scrape.by_account import ByAccount


def errors() -> Counter:
    return Counter("errors", "What failed.", ("account", "reason"), registry=None)


def found(kept: ByAccount[Counter], accounts: Iterable[str] | None = None) -> dict[str, float]:
    [family] = kept.collect(accounts)
    assert (family.name, family.documentation, family.type) == ("errors", "What failed.", "counter")
    totals = [sample for sample in family.samples if sample.name == "errors_total"]
    return {sample.labels["account"]: sample.value for sample in totals}


@pytest.fixture
def kept() -> ByAccount[Counter]:
    kept = ByAccount(errors)
    kept.labels("a", "timeout").inc()
    kept.labels("b", "timeout").inc(2)
    return kept


def test_all_accounts_make_one_family(kept: ByAccount[Counter]) -> None:
    assert found(kept) == {"a": 1, "b": 2}


def test_only_the_samples_of_the_accounts_asked_for_are_given(kept: ByAccount[Counter]) -> None:
    assert found(kept, ["b"]) == {"b": 2}
    assert found(kept, []) == {}
    assert found(kept, ["never seen"]) == {}


def test_the_others_are_not_even_looked_at(
    kept: ByAccount[Counter], monkeypatch: pytest.MonkeyPatch
) -> None:
    def collected(self: Counter) -> Iterable[Metric]:
        looked_at.append(self)
        return collect(self)

    looked_at: list[Counter] = []
    collect = Counter.collect
    monkeypatch.setattr(Counter, "collect", collected)
    for number in range(100):
        kept.labels(f"other-{number}", "timeout").inc()
    assert found(kept, ["a"]) == {"a": 1}
    assert len(looked_at) == 2  # the empty family, and the account's own


def test_a_removed_account_starts_anew_when_it_is_back(kept: ByAccount[Counter]) -> None:
    kept.remove("b")
    assert found(kept) == {"a": 1}
    kept.labels("b", "timeout").inc()
    assert found(kept) == {"a": 1, "b": 1}


def test_removing_an_account_that_never_was_does_nothing(kept: ByAccount[Counter]) -> None:
    kept.remove("c")
    assert found(kept) == {"a": 1, "b": 2}
