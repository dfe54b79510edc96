"""What alerts say, and how the settings change the rules. Run by the promtool on the PATH."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart
from support.programs import ROOT, run

from grafana.alerts.render import JOB_REGEX, plain_rules
from grafana.alerts.settings import CHART, THRESHOLDS
from nextmv_exporter.scrape.metrics import METRICS
from nextmv_exporter.scrape.target import ScrapeOptions

pytestmark = pytest.mark.system

RULES = ROOT / "grafana" / "alerts" / "nextmv-exporter.rules.yaml"
README = (ROOT / "grafana" / "README.md").read_text()
PAIRS = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
OWN = {
    "notStartingSecondsByClass": {"16c60gb12h": 1800},
    "oldestQueuedSecondsByClass": {"16c60gb12h": 7200},
    "serviceLevelSecondsByClass": {"16c60gb12h": 3600, "6c9500mb870s": 60},
    "serviceLevelShareByClass": {"6c9500mb870s": 0.9},
    "serviceLevelMinimumLate": 1,
}

Alert = tuple[str, str | None]


def rules_of(text: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules_of(RULES.read_text()) if "alert" in rule}


def texts(directory: Path, rules: str, series: dict[str, str], time: str) -> dict[Alert, Any]:
    """Lint rules, and return the annotations of the alerts that fire, by alert and class."""
    (directory / "rules.yaml").write_text(rules)
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", directory / "rules.yaml")
    expected = [{"eval_time": time, "alertname": name, "exp_alerts": []} for name in ALERTS]
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    test = {"interval": "1m", "input_series": inputs, "alert_rule_test": expected}
    file = directory / "tests.json"
    file.write_text(json.dumps({"rule_files": ["rules.yaml"], "tests": [test]}))
    command = ["promtool", "test", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = re.findall(r"Labels:\{(.*)\}\s+Annotations:\{(.*)\}", done.stdout + done.stderr)
    found = [[dict(PAIRS.findall(part)) for part in each] for each in told]
    return {
        (labels["alertname"], labels.get("execution_class")): {
            name: json.loads(f'"{value}"') for name, value in annotations.items()
        }
        for labels, annotations in found
    }


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_says_who_is_concerned_and_what_to_run(alert: str) -> None:
    rule = ALERTS[alert]
    summary, description = rule["annotations"]["summary"], rule["annotations"]["description"]
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert f"`{alert}`" in README
    if "{{ $labels.account }}" in summary:
        command = re.fullmatch(r".*`(nextmv-queue --account .*)`", description)
        assert command
        assert ("{{ $labels.execution_class }}" in summary) == ("--execution-class" in command[1])
    else:
        assert summary.startswith("Nextmv queues are ")
    assert not re.search(r"\$labels\.(job|namespace|cluster)", description)


def test_rules_ask_only_for_what_exists_and_no_class_is_matched_by_a_pattern() -> None:
    text = plain_rules(OWN)
    recorded = {rule["record"] for rule in rules_of(text) if "record" in rule}
    known = {series for metric in METRICS for series in metric.series} | recorded
    expressions = " ".join(rule["expr"] for rule in rules_of(text))
    asked = set(re.findall(r"\b(?:\w+:)?nextmv_\w+(?::\w+)?", expressions))
    assert len(asked) > 20
    assert asked <= known
    assert 'execution_class="16c60gb12h"' in text
    assert not re.search("execution_class[!=]~", text)


def test_commands_are_safe_for_a_shell_and_links_for_a_browser(tmp_path: Path) -> None:
    account, name = "a & b's $(id)", "6c9500mb870s"
    labels = f'account="{account}", execution_class="{name}"'
    queue = f'nextmv_account_queue_length{{status_v2="queued", {labels}}}'
    rules = plain_rules(dashboardUrl="https://d.example/d", runbookBaseUrl="https://r.example/")
    told = texts(tmp_path, rules, {queue: "1x30"}, "20m")["NextmvQueueStalled", name]
    command = told["description"].split("`")[1]
    shell = f"queue() {{ printf '%s\\n' \"$@\"; }}; {command.replace('nextmv-queue', 'queue')}"
    echo = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True)
    shown = ["--account", account, "--status", "running", "--execution-class", name]
    assert echo.stdout.splitlines() == shown
    assert told["summary"].startswith(f"Nextmv account {account}: runs of {name} are queued and ")
    variables = f"&var-account=a+%26+b%27s+%24%28id%29&var-execution_class={name}"
    assert told["dashboard_url"] == f"https://d.example/d?from=now-6h{variables}"
    assert told["runbook_url"] == "https://r.example/docs/runbooks.md#nextmvqueuestalled"


def test_an_execution_class_may_have_settings_of_its_own(tmp_path: Path) -> None:
    classes = {"16c60gb12h": 43_200, "6c9500mb870s": 870, "8c16gb120m": 7200}
    series: dict[str, str] = {}
    for name, longest in classes.items():
        labels = f'execution_class="{name}"'
        series |= {
            f'nextmv_account_queue_length{{status_v2="queued", {labels}}}': "5x200",
            f'nextmv_account_queue_length{{status_v2="running", {labels}}}': "5x200",
            f"nextmv_account_queue_oldest_queued_run_age_seconds{{{labels}}}": "7500x200",
            f"nextmv_account_queue_last_start_timestamp_seconds{{{labels}}}": "0x200",
            f"nextmv_execution_class_max_run_seconds{{{labels}}}": f"{longest}x200",
            f"nextmv_account_queue_start_wait_seconds_count{{{labels}}}": "0+10x200",
        }
        for level, in_time in ((60, 0), (300, 5), (3600, 8)):
            bucket = f'nextmv_account_queue_start_wait_seconds_bucket{{{labels}, le="{level}.0"}}'
            series[bucket] = f"0+{in_time}x200"
    told = texts(tmp_path, plain_rules(OWN), series, "125m")
    old, hang = "NextmvOldestQueuedRunTooOld", "NextmvRunsNotStarting"
    found = {key for key in told if key[0] in {hang, old}}
    assert found == {(hang, "16c60gb12h"), (hang, "6c9500mb870s")}
    burn = "NextmvServiceLevel{}Burn".format
    for alert, name, text in (
        (burn("Fast"), "6c9500mb870s", "1 minute within an hour, 10 % may"),
        (burn("Fast"), "8c16gb120m", "5 minutes within an hour, 5 % may"),
        (burn("Slow"), "16c60gb12h", "60 minutes within three days, 5 % may"),
    ):
        assert told[alert, name]["summary"].endswith(f" runs of {name} started later than {text}")


def test_a_missed_service_level_pages_only_if_asked_to() -> None:
    name = "NextmvServiceLevelFastBurn"
    paging = rules_of(plain_rules(severity={name: "critical"}))
    severities = [each["labels"]["severity"] for each in paging if each.get("alert") == name]
    assert [*severities, ALERTS[name]["labels"]["severity"]] == ["critical", "warning"]
    assert THRESHOLDS["serviceLevelSeconds"] in ScrapeOptions().wait_buckets


def test_the_readmes_command_renders_rules_that_prometheus_accepts(tmp_path: Path) -> None:
    """`helm template` is Helm's own rendering; the rest of the command is run as it stands."""
    command = re.search(r"^helm template .*?rules\.yaml$", README, re.MULTILINE | re.DOTALL)
    assert command
    given: dict[str, Any] = {}
    for path, value in re.findall(r"--set ([\w.]+)='?([^'\s]+)'?", command[0]):
        *sections, name = path.split(".")
        place = given
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = yaml.safe_load(value) if re.fullmatch(r"true|\d+", value) else value
    rendered = Chart.load(CHART).render(given, name="nextmv-exporter")
    (file,) = (text for path, text in rendered.items() if path.endswith("/prometheusrule.yaml"))
    (sed,) = re.findall(r"sed '(.+)'", command[0])
    done = subprocess.run(["sed", sed], input=file, capture_output=True, text=True, check=True)
    rules = tmp_path / "rules.yaml"
    rules.write_text(done.stdout)
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", rules)
    assert 'execution_class="16c60gb12h"} * 0 + 72000' in done.stdout
    assert f'up{{job=~"{JOB_REGEX}"}}' in done.stdout
