import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.programs import ROOT, run

from grafana.alerts.render import plain_rules
from grafana.alerts.settings import SETTINGS
from nextmv_exporter.scrape.metrics import METRICS

RULES = ROOT / "grafana" / "alerts" / "nextmv-exporter.rules.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks.md"
RULE_TESTS = sorted((Path(__file__).parent / "rules").glob("*.test.yaml"))
EVERY_RULE: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in EVERY_RULE if "alert" in rule}


def expectations(alert: str) -> list[bool]:
    """Whether the alert is expected to fire, of each of its tests' expectations."""
    return [
        bool(expected["exp_alerts"])
        for file in RULE_TESTS
        for test in yaml.safe_load(file.read_text())["tests"]
        for expected in test["alert_rule_test"]
        if expected["alertname"] == alert
    ]


def test_promtool_finds_nothing_to_lint_in_the_rules() -> None:
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES)


@pytest.mark.parametrize("file", RULE_TESTS, ids=lambda file: file.name.split(".")[0])
def test_alerts_fire_keep_silent_and_resolve_as_their_tests_expect(file: Path) -> None:
    run("promtool", "test", "rules", file)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_seen_to_fire_and_then_to_resolve(alert: str) -> None:
    fires = expectations(alert)
    assert True in fires
    assert False in fires[fires.index(True) :]


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_says_who_should_care_and_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    assert alert.startswith("Nextmv")
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    anchor = rule["annotations"]["runbook_url"].removeprefix("docs/runbooks.md#")
    assert anchor == alert.lower()
    assert f"\n## {alert}\n" in RUNBOOKS.read_text()


def test_runbooks_are_of_alerts_that_exist() -> None:
    assert set(re.findall(r"^## (Nextmv\w+)$", RUNBOOKS.read_text(), re.MULTILINE)) == set(ALERTS)


def test_rules_ask_only_for_metrics_that_the_exporter_has() -> None:
    known = {series for metric in METRICS for series in metric.series}
    recorded = {rule["record"] for rule in EVERY_RULE if "record" in rule}
    threshold = "execution_class:nextmv_oldest_queued_run_age_seconds:threshold"
    asked = {
        name for rule in EVERY_RULE for name in re.findall(r"[\w:]*nextmv_[\w:]+", rule["expr"])
    }
    assert asked - known - recorded == {threshold}


def test_one_address_of_the_runbooks_reaches_every_alert() -> None:
    text = plain_rules({"runbookBaseUrl": "https://wiki.example/nextmv/"})
    assert text.count("runbook_url: https://wiki.example/nextmv/docs/runbooks.md#") == len(ALERTS)


def test_an_execution_class_may_have_a_threshold_of_its_own(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(plain_rules({"oldestQueuedSecondsByClass": {"16c60gb12h": 7200}}))
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", rules)
    assert {
        "record": "execution_class:nextmv_oldest_queued_run_age_seconds:threshold",
        "expr": "vector(7200)",
        "labels": {"execution_class": "16c60gb12h"},
    } in [rule for group in yaml.safe_load(rules.read_text())["groups"] for rule in group["rules"]]


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(KeyError, match="oldestQueuedSecond"):
        plain_rules({"oldestQueuedSecond": 1})


def test_every_setting_is_used_by_the_rules_and_documented() -> None:
    source = (ROOT / "grafana" / "alerts" / "rules.source.yaml").read_text()
    readme = (ROOT / "grafana" / "README.md").read_text()
    assert set(re.findall(r"<<(\w+)>>", source)) == {each.name for each in SETTINGS}
    for setting in SETTINGS:
        assert f"| `{setting.name}` | `{setting.default}` | {setting.meaning} |" in readme
