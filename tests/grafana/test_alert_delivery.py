"""From what breaks to the message that wakes someone, and to the one that says it is over.

The exporter, Prometheus and Alertmanager are real, and so are the rules and configuration files:
only windows are shortened. Nextmv's API is a server that misbehaves when told to.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.exporter import exporter_process
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
    "exporterDownFor": "3s",
    "keepFiringFor": "1s",
}


@contextmanager
def monitored(directory: Path, address: str) -> Iterator[Webhook]:
    """Monitor an exporter at an address; gives what receives the messages."""
    rules = directory / "rules.yaml"
    rules.write_text(
        plain_rules(SHORT, dashboardUrl="https://d.example/d", runbookBaseUrl="https://r.example/")
    )
    routing = yaml.safe_load((ROOT / "grafana" / "alertmanager.yml").read_text())
    routing["route"] |= {"group_wait": "0s", "group_interval": "1s"}
    with ExitStack() as stack:
        webhook = stack.enter_context(Webhook())
        routing["receivers"][0]["webhook_configs"] = [{"url": webhook.url}]
        target = stack.enter_context(alertmanager(directory, routing))
        alerting = {"alertmanagers": [{"static_configs": [{"targets": [target]}]}]}
        config = prometheus_config(address, rule_files=[str(rules)], alerting=alerting)
        stack.enter_context(prometheus(directory, config))
        yield webhook


def message(webhook: Webhook, alert: str, status: str) -> dict[str, Any]:
    """Wait for a message, and return its alert."""

    def received() -> list[dict[str, Any]]:
        wanted = alert, status
        return [a for a in webhook.alerts if (a["labels"]["alertname"], a["status"]) == wanted]

    return until(received, seconds=90, what=f"{alert} {status}")[0]


def test_a_stalled_class_a_revoked_key_and_a_gone_exporter_wake_someone_until_they_are_over(
    tmp_path: Path,
) -> None:
    address = f"127.0.0.1:{free_port()}"
    with FakeAPI() as api, monitored(tmp_path, address) as webhook:
        with exporter_process("--web.listen-address", address, endpoint=api.url):
            api.serves(*QUEUED)
            stalled = message(webhook, "NextmvQueueStalled", "firing")
            assert stalled["labels"]["severity"] == "critical"
            assert stalled["labels"]["execution_class"] == CLASS
            told = stalled["annotations"]
            assert told["summary"] == (
                f"Nextmv account default: runs of {CLASS} are queued and none is running"
            )
            command = f"nextmv-queue --account default --status running --execution-class {CLASS}"
            assert told["description"].endswith(f"`{command}`")
            assert told["dashboard_url"] == (
                "https://d.example/d?from=now-6h&var-job=nextmv-exporter"
                f"&var-account=default&var-execution_class={CLASS}"
            )
            assert told["runbook_url"] == "https://r.example/docs/runbooks.md#nextmvqueuestalled"
            api.serves(*RUNNING)
            message(webhook, "NextmvQueueStalled", "resolved")

            api.answers(401, b"the key was revoked")
            rejected = message(webhook, "NextmvAccountAuthFailed", "firing")
            assert "default is not monitored: " in rejected["annotations"]["summary"]
            api.serves(*RUNNING)
            message(webhook, "NextmvAccountAuthFailed", "resolved")

        down = message(webhook, "NextmvExporterDown", "firing")
        assert down["annotations"]["summary"].endswith(f"cannot scrape {address}")
        with exporter_process("--web.listen-address", address, endpoint=api.url):
            message(webhook, "NextmvExporterDown", "resolved")
        assert {each["labels"]["alertname"] for each in webhook.alerts} == {
            "NextmvQueueStalled",
            "NextmvAccountAuthFailed",
            "NextmvExporterDown",
        }
