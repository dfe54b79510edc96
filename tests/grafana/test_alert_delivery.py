"""From a run that never starts to the message that wakes someone; only Nextmv is simulated.

The exporter, Prometheus and Alertmanager are real, and so are the rules and configuration files:
only waiting times are shortened.
"""

from pathlib import Path
from typing import Any

import yaml
from support.exporter import exporter_process
from support.programs import (
    ROOT,
    Webhook,
    alertmanager,
    prometheus,
    prometheus_config,
    simulated_account,
)
from support.waiting import until

from grafana.alerts.render import plain_rules
from grafana.alerts.settings import Value
from nextmv_exporter.demo import DEMO_KEY

STUCK = "6c9500mb870s"
HASTY: dict[str, Value] = {
    "notDrainingWindow": "15s",
    "notDrainingFor": "2s",
    "oldestQueuedSeconds": 5,
    "oldestQueuedFor": "2s",
    "keepFiringFor": "2s",
}


def alertmanager_config(webhook_url: str) -> dict[str, Any]:
    """The local stack's, in a hurry, with somebody to tell."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "grafana" / "alertmanager.yml").read_text())
    config["route"] |= {"group_wait": "0s", "group_interval": "1s"}
    config["receivers"][0]["webhook_configs"] = [{"url": webhook_url}]
    return config


def test_a_stuck_execution_class_wakes_someone(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(plain_rules(HASTY))
    with (
        Webhook() as webhook,
        alertmanager(tmp_path, alertmanager_config(webhook.url)) as alertmanager_address,
        simulated_account(tmp_path, "--stuck", STUCK) as endpoint,
        exporter_process(endpoint=endpoint, environment={"NEXTMV_API_KEY": DEMO_KEY}) as exporter,
        prometheus(
            tmp_path,
            prometheus_config(
                exporter.address,
                rule_files=[str(rules)],
                alerting={
                    "alertmanagers": [{"static_configs": [{"targets": [alertmanager_address]}]}]
                },
            ),
        ),
    ):

        def told(alert: str) -> list[dict[str, Any]]:
            return [
                each
                for each in webhook.alerts
                if each["labels"]["alertname"] == alert
                and each["labels"].get("execution_class") == STUCK
            ]

        alert = until(lambda: told("NextmvQueueNotDraining"), seconds=58, what="the alert")[0]

    assert alert["status"] == "firing"
    assert alert["labels"]["severity"] == "critical"
    assert alert["labels"]["account"] == "default"
    assert f"The queue of {STUCK} in account default grew" in alert["annotations"]["description"]
    assert alert["annotations"]["runbook_url"] == "docs/runbooks.md#nextmvqueuenotdraining"
    assert {each["labels"]["alertname"] for each in webhook.alerts} <= {
        "NextmvQueueNotDraining",
        "NextmvOldestQueuedRunTooOld",
    }
