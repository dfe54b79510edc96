"""The rules, tested with the promtool on the PATH: those of Prometheus 2 and 3 agree."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart
from hypothesis import given
from hypothesis import strategies as st
from support.programs import ROOT, run

from grafana.alerts.render import JOB_REGEX, plain_rules
from grafana.alerts.settings import CHART, THRESHOLDS
from nextmv_exporter.scrape.metrics import METRICS
from nextmv_exporter.scrape.target import ScrapeOptions

RULES = ROOT / "grafana" / "alerts" / "nextmv-exporter.rules.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks.md"
README = ROOT / "grafana" / "README.md"
RULE_TESTS = sorted((Path(__file__).parent / "rules").glob("*.test.yaml"))
DURATION = re.compile(r"([0-9]+(ms|[smhdwy]))+")
BOUNDS = {"3h20m", "13h", "25h"}
"""For classes of long runs; see `execution_class:nextmv_longest_run_seconds:bound`."""


def rules_of(text: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


EVERY_RULE = rules_of(RULES.read_text())
ALERTS = {rule["alert"]: rule for rule in EVERY_RULE if "alert" in rule}
CLASS_ALERTS = {
    rule["alert"]
    for group in yaml.safe_load(RULES.read_text())["groups"]
    if group["name"] == "nextmv-exporter.queue"
    for rule in group["rules"]
    if "alert" in rule
}
OWN_CLASSES: dict[str, Any] = {
    "notStartingForByClass": {"16c60gb12h": "2h", "6c9500mb870s": "2h"},
    "oldestQueuedSecondsByClass": {"16c60gb12h": 7200},
    "serviceLevelSecondsByClass": {"16c60gb12h": 3600, "6c9500mb870s": 60},
    "serviceLevelShareByClass": {"6c9500mb870s": 0.9},
}


def expectations(alert: str) -> list[bool]:
    """Whether the alert is expected to fire, of each of its tests' expectations."""
    return [
        bool(expected["exp_alerts"])
        for file in RULE_TESTS
        for test in yaml.safe_load(file.read_text())["tests"]
        for expected in test["alert_rule_test"]
        if expected["alertname"] == alert
    ]


def check(directory: Path, text: str, tests: list[dict[str, Any]]) -> None:
    """Lint rules and test them."""
    (directory / "rules.yaml").write_text(text)
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", directory / "rules.yaml")
    (directory / "tests.yaml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests})
    )
    run("promtool", "test", "rules", directory / "tests.yaml")


def test_promtool_finds_nothing_to_lint_in_the_rules() -> None:
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES)


@pytest.mark.parametrize("file", RULE_TESTS, ids=lambda file: file.name.split(".")[0])
def test_alerts_fire_keep_silent_and_resolve_as_their_tests_expect(
    file: Path,
) -> None:
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
    assert set(rule["annotations"]) == {"summary", "description"}
    assert "Next step: " in rule["annotations"]["description"]
    text = " ".join(rule["annotations"].values())
    assert "{{ $labels.account }}" in text or alert.startswith("NextmvExporter")
    assert "{{ $labels.execution_class }}" in text or alert not in CLASS_ALERTS
    assert f"\n## {alert}\n" in RUNBOOKS.read_text()
    assert f"`{alert}`" in README.read_text()


def test_rules_ask_only_for_metrics_that_the_exporter_has() -> None:
    known = {series for metric in METRICS for series in metric.series}
    recorded = {rule["record"] for rule in EVERY_RULE if "record" in rule}
    threshold = "execution_class:nextmv_oldest_queued_run_age_seconds:threshold"
    asked = {
        name
        for rule in EVERY_RULE
        for name in re.findall(r"[\w:]*\bnextmv_[\w:]+|\w+:\w*nextmv_[\w:]+", rule["expr"])
    }
    assert asked - known - recorded == {threshold}


def test_links_lead_to_the_dashboard_of_the_account_and_to_the_runbook(tmp_path: Path) -> None:
    text = plain_rules(
        dashboardUrl="https://grafana.example/d/nextmv-account-queue",
        runbookBaseUrl="https://wiki.example/nextmv/",
    )
    for alert in (rule for rule in rules_of(text) if "alert" in rule):
        runbook = f"https://wiki.example/nextmv/docs/runbooks.md#{alert['alert'].lower()}"
        assert alert["annotations"]["runbook_url"] == runbook
        assert alert["annotations"]["dashboard_url"].startswith("https://grafana.example/d/")
    check(
        tmp_path,
        text,
        [
            {
                "interval": "1m",
                "input_series": [
                    {
                        "series": 'nextmv_account_queue_folded_groups{account="a & b", job="j"}',
                        "values": "1x30",
                    }
                ],
                "alert_rule_test": [
                    {
                        "eval_time": "20m",
                        "alertname": "NextmvGroupsFolded",
                        "exp_alerts": [
                            {
                                "exp_labels": {"account": "a & b", "job": "j", "severity": "info"},
                                "exp_annotations": {
                                    "summary": "Nextmv account a & b: applications are folded "
                                    "together",
                                    "description": "1 label groups of account a & b (job j) are "
                                    'reported under application_id="__other__", since there are '
                                    "more than --queue.max-groups. Next step: raise that flag if "
                                    "Prometheus can store more series.",
                                    "dashboard_url": "https://grafana.example/d/"
                                    "nextmv-account-queue?from=now-6h&var-job=j"
                                    "&var-account=a+%26+b",
                                    "runbook_url": "https://wiki.example/nextmv/docs/runbooks.md"
                                    "#nextmvgroupsfolded",
                                },
                            }
                        ],
                    }
                ],
            }
        ],
    )


def recorded(eval_time: str, expr: str, samples: dict[str, float]) -> dict[str, Any]:
    """An expectation of `promql_expr_test`."""
    expected = [{"labels": labels, "value": value} for labels, value in samples.items()]
    return {"eval_time": eval_time, "expr": expr, "exp_samples": expected}


def test_an_execution_class_may_have_settings_of_its_own(tmp_path: Path) -> None:
    classes = ["16c60gb12h", "6c9500mb870s", "8c16gb120m"]
    queue = 'nextmv_account_queue_length{{execution_class="{}", status_v2="queued"}}'
    age = 'nextmv_account_queue_oldest_queued_run_age_seconds{{execution_class="{}"}}'
    waits = 'nextmv_account_queue_start_wait_seconds_{}{{execution_class="{}"{}}}'
    series = [{"series": queue.format(name), "values": "5x200"} for name in classes]
    series += [{"series": age.format(name), "values": "10000x200"} for name in classes]
    for name in classes:
        series.append({"series": waits.format("count", name, ""), "values": "0+100x200"})
        for bound, per_minute in (("60.0", 80), ("300.0", 90), ("3600.0", 95)):
            bucket = waits.format("bucket", name, f', le="{bound}"')
            series.append({"series": bucket, "values": f"0+{per_minute}x200"})
    label = '{{execution_class="{}"}}'
    check(
        tmp_path,
        plain_rules(OWN_CLASSES),
        [
            {
                "interval": "1m",
                "input_series": series,
                "promql_expr_test": [
                    recorded(
                        "150m",
                        'group by (execution_class) (ALERTS{alertname="NextmvRunsNotStarting", '
                        'alertstate="firing"})',
                        {label.format("16c60gb12h"): 1, label.format("6c9500mb870s"): 1},
                    ),
                    recorded(
                        "150m",
                        "group by (execution_class) (ALERTS{alertname="
                        '"NextmvOldestQueuedRunTooOld", alertstate="firing"})',
                        {label.format("16c60gb12h"): 1, label.format("6c9500mb870s"): 1},
                    ),
                    # 20 late of 10 allowed; 10 of 5; 5 of 5 within an hour.
                    recorded(
                        "150m",
                        "round(max by (execution_class) "
                        "(execution_class:nextmv_account_queue_starts_late:burn_fast))",
                        {
                            label.format("6c9500mb870s"): 2,
                            label.format("8c16gb120m"): 2,
                            label.format("16c60gb12h"): 1,
                        },
                    ),
                ],
            }
        ],
    )


@given(
    (
        st.integers(1, 100_000)
        | st.sampled_from([most + near for most in (2700, 10_800, 43_200) for near in (-1, 0, 1)])
    ).map(lambda seconds: (f"{seconds}s", seconds))
    | st.integers(1, 2_000).map(lambda minutes: (f"{minutes}m", 60 * minutes))
    | st.integers(1, 48).map(lambda hours: (f"{hours}h", 3600 * hours))
    | st.integers(1, 2).map(lambda days: (f"{days}d", 86_400 * days)),
    st.sampled_from(["6c9500mb", "16c60gb", "1c1gb", ""]),
)
def test_a_class_has_the_bound_of_its_longest_run_time(
    limit: tuple[str, int], machine: str
) -> None:
    (rule,) = (each for each in EVERY_RULE if each.get("record", "").endswith(":bound"))
    name, seconds = limit
    bounds = [
        int(bound)
        for pattern, bound in re.findall(r'=~"(.+)"} \* (\d+)', rule["expr"])
        if re.fullmatch(pattern, machine + name)
    ]
    longest = {45 * 60: [], 3 * 3600: [12_000], 12 * 3600: [46_800]}  # without, an hour
    assert bounds == next((b for most, b in longest.items() if seconds <= most), [90_000])


@pytest.mark.parametrize("name", ["unknown", "6c9500mb870s", "16c60gb30m", "standard", "30m"])
def test_other_classes_have_no_bound(name: str) -> None:
    (rule,) = (each for each in EVERY_RULE if each.get("record", "").endswith(":bound"))
    assert not any(re.fullmatch(each, name) for each in re.findall(r'=~"(.+)"}', rule["expr"]))


def test_the_time_of_the_service_level_is_a_bucket_of_the_exporter() -> None:
    assert THRESHOLDS["serviceLevelSeconds"] in ScrapeOptions().wait_buckets


def test_all_windows_follow_the_settings() -> None:
    names = [
        name
        for name, default in THRESHOLDS.items()
        if isinstance(default, str) and DURATION.fullmatch(default)
    ]
    chosen = {name: f"{number}m" for number, name in enumerate(names, 1001)}
    used = set()
    for rule in rules_of(plain_rules(chosen)):
        without_strings = re.sub(r'"[^"]*"', "", rule["expr"])
        used |= set(re.findall(r"\[(.+?)\]", without_strings))
        used |= {rule[key] for key in ("for", "keep_firing_for") if key in rule}
        texts = " ".join(rule.get("annotations", {}).values())
        used |= {each[0] for each in DURATION.finditer(texts)}
    assert used - BOUNDS == set(chosen.values())


def test_the_readmes_command_renders_rules_that_prometheus_accepts(tmp_path: Path) -> None:
    """`helm template` is Helm's own rendering; the rest of the command is run as it stands."""
    command = re.search(
        r"^helm template .*?rules\.yaml$", README.read_text(), re.MULTILINE | re.DOTALL
    )
    assert command
    given: dict[str, Any] = {}
    for path, value in re.findall(r"--set ([\w.]+)='?([^'\s]+)'?", command[0]):
        *sections, name = path.split(".")
        place = given
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value == "true" or value
    rendered = Chart.load(CHART).render(given, name="nextmv-exporter")
    (file,) = (text for path, text in rendered.items() if path.endswith("/prometheusrule.yaml"))
    (sed,) = re.findall(r"sed '(.+)'", command[0])
    done = subprocess.run(["sed", sed], input=file, capture_output=True, text=True, check=True)
    rules = tmp_path / "rules.yaml"
    rules.write_text(done.stdout)
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", rules)
    windows = {each.get("for") for each in rules_of(done.stdout)}
    assert {"15m", "20h"} <= windows
    assert f'up{{job=~"{JOB_REGEX}"}}' in done.stdout


def test_no_rule_depends_on_one_of_another_group_since_groups_are_evaluated_in_any_order() -> None:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        own = {rule["record"] for rule in group["rules"] if "record" in rule}
        others = {rule["record"] for rule in EVERY_RULE if "record" in rule} - own
        for rule in group["rules"]:
            assert not {name for name in others if name in rule["expr"]}
