"""What the runbooks name exists: alerts, reasons, panels, settings and commands."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.programs import ROOT

from grafana.alerts.settings import THRESHOLDS
from nextmv_exporter.nextmv.__main__ import print_queue
from nextmv_exporter.nextmv.errors import Reason

RULES = ROOT / "grafana" / "alerts" / "nextmv-exporter.rules.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks.md"
ALERTS = {
    rule["alert"]
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


def test_runbooks_are_of_alerts_that_exist() -> None:
    assert set(re.findall(r"^## (Nextmv\w+)$", RUNBOOKS.read_text(), re.MULTILINE)) == set(ALERTS)


def test_runbooks_name_every_reason_once() -> None:
    section = (
        RUNBOOKS.read_text().partition("\n## NextmvAccountUnreadable\n")[2].partition("\n## ")[0]
    )
    reasons = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert sorted(reasons) == sorted(Reason)


def test_runbooks_and_next_steps_name_panels_and_flags_that_exist() -> None:
    text = RUNBOOKS.read_text() + RULES.read_text()
    dashboard = json.loads((ROOT / "grafana" / "dashboards" / "account-queue.json").read_text())
    titles = {
        panel["title"]
        for row in dashboard["panels"]
        for panel in (row, *row.get("panels", []))
        if panel.get("title")
    }
    named = re.findall(r"\*([A-Z][^*→]+)\*", RUNBOOKS.read_text().replace("**", ""))
    assert named
    assert set(named) <= titles
    flags = {flag for each in print_queue.params for flag in each.opts}
    for command in re.findall(r"nextmv-queue([^`|]*)", text):
        assert set(re.findall(r"--[\w-]+", command.partition("# ")[0])) <= flags


def test_settings_that_runbooks_name_exist() -> None:
    settings = set(re.findall(r"`([a-z]+[A-Z]\w+)`", RUNBOOKS.read_text()))
    assert settings
    assert settings - {"jobRegex"} <= set(THRESHOLDS)


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_each_runbook_says_what_is_broken_how_to_see_it_what_to_do_and_whom_to_ask(
    alert: str,
) -> None:
    section = RUNBOOKS.read_text().partition(f"\n## {alert}\n")[2].partition("\n## ")[0]
    parts = re.findall(r"^\*\*(What is broken|See it|Do|Ask)\b", section, re.MULTILINE)
    assert parts == ["What is broken", "See it", "Do", "Ask"]


def test_commands_of_nextmvs_cli_have_the_options_that_runbooks_give_them() -> None:
    commands = re.findall(r"nextmv (cloud [a-z]+ [a-z]+) (--[^<|#\n]*)", RUNBOOKS.read_text())
    assert commands
    for command, options in commands:
        shown = subprocess.run(
            [Path(sys.executable).with_name("nextmv"), *command.split(), "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert all(option in shown.stdout for option in re.findall(r"--[a-z-]+", options))
