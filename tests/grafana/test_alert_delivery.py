"""From what breaks to the message that wakes someone, and to the one that says it is over.

The exporter, Prometheus and Alertmanager are real, and so are the rules and configuration files:
only windows are shortened. Nextmv's API is a server that misbehaves when told to.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.exporter import Process, exporter_process
from support.fake_api import RUN, FakeAPI
from support.programs import (
    ROOT,
    Webhook,
    alertmanager,
    free_port,
    prometheus,
    prometheus_config,
)
from support.waiting import until

from grafana.alerts.render import plain_rules

pytestmark = pytest.mark.system

CLASS = RUN["execution_class"]
QUEUED = [{**RUN, "id": f"run-{number}"} for number in range(3)]
RUNNING = [*QUEUED[1:], {**QUEUED[0], "status_v2": "running"}]
SHORT = {
    "stalledFor": "3s",
    "gapTolerance": "3s",
    "errorWindow": "4s",
    "authFailedFor": "3s",
    "keepFiringFor": "1s",
    "exporterDownFor": "3s",
}
IMPATIENT = {"group_wait": "0s", "group_interval": "1s"}


def alertmanager_config(webhook_url: str) -> dict[str, Any]:
    """Return the local stack's configuration, without waiting, and with a receiver."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "grafana" / "alertmanager.yml").read_text())
    config["route"] |= IMPATIENT
    config["receivers"][0]["webhook_configs"] = [{"url": webhook_url}]
    return config


@dataclass
class Stack:
    """All that stands between Nextmv's API and whoever is woken."""

    api: FakeAPI
    prometheus_url: str
    address: str
    webhook: Webhook
    _exporter: ExitStack = field(default_factory=ExitStack)

    def start_exporter(self) -> Process:
        return self._exporter.enter_context(
            exporter_process("--web.listen-address", self.address, endpoint=self.api.url)
        )

    def stop_exporter(self) -> None:
        self._exporter.close()

    def message(self, alert: str, status: str) -> dict[str, Any]:
        """Wait for a message, and return its alert."""

        def received() -> list[dict[str, Any]]:
            return [
                each
                for each in self.webhook.alerts
                if (each["labels"]["alertname"], each["status"]) == (alert, status)
            ]

        return until(received, seconds=90, what=f"{alert} {status}")[0]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        plain_rules(
            SHORT,
            dashboardUrl="https://grafana.example/d/nextmv-account-queue",
            runbookBaseUrl="https://wiki.example/",
        )
    )
    address = f"127.0.0.1:{free_port()}"
    with (
        Webhook() as webhook,
        FakeAPI() as api,
        alertmanager(tmp_path, alertmanager_config(webhook.url)) as alertmanager_address,
        prometheus(
            tmp_path,
            prometheus_config(
                address,
                rule_files=[str(rules)],
                alerting={
                    "alertmanagers": [{"static_configs": [{"targets": [alertmanager_address]}]}]
                },
            ),
        ) as prometheus_url,
    ):
        running = Stack(api, prometheus_url, address, webhook)
        running.start_exporter()
        yield running
        running.stop_exporter()


def test_a_stalled_class_a_revoked_key_and_a_gone_exporter_wake_someone_until_they_are_over(
    stack: Stack,
) -> None:
    stack.api.serves(*QUEUED)
    stalled = stack.message("NextmvQueueStalled", "firing")
    assert stalled["labels"]["severity"] == "critical"
    assert stalled["labels"]["execution_class"] == CLASS
    assert stalled["annotations"]["summary"] == (
        f"Nextmv account default: runs of {CLASS} are queued and none is running"
    )
    assert (
        f"`nextmv-queue --account default --status running --execution-class {CLASS}`"
        in (stalled["annotations"]["description"])
    )
    assert stalled["annotations"]["dashboard_url"] == (
        "https://grafana.example/d/nextmv-account-queue?from=now-6h&var-job=nextmv-exporter"
        f"&var-account=default&var-execution_class={CLASS}"
    )
    runbook = "https://wiki.example/docs/runbooks.md#nextmvqueuestalled"
    assert stalled["annotations"]["runbook_url"] == runbook
    stack.api.serves(*RUNNING)
    stack.message("NextmvQueueStalled", "resolved")

    stack.api.answers(401, b"the key was revoked")
    rejected = stack.message("NextmvAccountAuthFailed", "firing")
    assert rejected["labels"]["account"] == "default"
    assert rejected["annotations"]["summary"].startswith(
        "Nextmv account default is not monitored: "
    )
    stack.api.serves(*RUNNING)
    stack.message("NextmvAccountAuthFailed", "resolved")

    stack.stop_exporter()
    down = stack.message("NextmvExporterDown", "firing")
    assert down["annotations"]["summary"].endswith(f"cannot scrape {stack.address}")
    stack.start_exporter()
    stack.message("NextmvExporterDown", "resolved")

    assert {each["labels"]["alertname"] for each in stack.webhook.alerts} == {
        "NextmvQueueStalled",
        "NextmvAccountAuthFailed",
        "NextmvExporterDown",
    }
