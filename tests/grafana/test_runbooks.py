"""What the runbooks name exists: alerts, reasons, panels, settings, links and commands."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.programs import ROOT

from grafana.alerts.settings import THRESHOLDS
from nextmv_exporter.web.landing import ADVICE

RULES = (ROOT / "grafana" / "alerts" / "nextmv-exporter.rules.yaml").read_text()
TEXT = (ROOT / "docs" / "runbooks.md").read_text()
SECTIONS = dict(re.findall(r"^## (\w+)\n\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
ALERTS = [
    rule["alert"]
    for group in yaml.safe_load(RULES)["groups"]
    for rule in group["rules"]
    if "alert" in rule
]


def test_each_alert_has_a_runbook_that_says_what_is_broken_and_what_to_do() -> None:
    assert list(SECTIONS) == list(dict.fromkeys(SECTIONS))
    assert sorted(SECTIONS) == sorted(ALERTS)
    for section in SECTIONS.values():
        parts = re.findall(r"^- \*\*(What is broken|See it|Do|Ask)\b", section, re.MULTILINE)
        assert parts == ["What is broken", "See it", "Do", "Ask"]
    assert len(TEXT.splitlines()) <= 250


def test_the_table_of_reasons_gives_the_advice_of_the_status_page() -> None:
    row = r'^ *\| <a id="reason-(\w+)"></a>`\1` \| .+ \| (.+) \|$'
    assert dict(re.findall(row, SECTIONS["NextmvAccountUnreadable"], re.MULTILINE)) == ADVICE


def test_links_within_the_page_lead_somewhere() -> None:
    anchors = {name.lower() for name in SECTIONS} | set(re.findall(r'<a id="(.+?)">', TEXT))
    links = set(re.findall(r"\]\(#(.+?)\)", TEXT))
    assert "reason-timeout" in links
    assert links <= anchors


def test_panels_settings_and_flags_that_are_named_exist() -> None:
    dashboard = json.loads((ROOT / "helm/nextmv-exporter/dashboards/account-queue.json").read_text())
    panels = [panel for row in dashboard["panels"] for panel in (row, *row.get("panels", []))]
    named = set(re.findall(r"\*([A-Z][^*→]+)\*", TEXT.replace("**", "")))
    assert "Wait at start" in named
    assert named - {"EOF"} <= {panel.get("title") for panel in panels}
    settings = set(re.findall(r"`([a-z]+[A-Z]\w+)`", TEXT))
    assert "malformedRuns" in settings
    assert settings - {"jobRegex"} <= set(THRESHOLDS)


@pytest.mark.system
def test_commands_have_the_options_that_runbooks_and_alerts_give_them() -> None:
    ours = {"nextmv_exporter.nextmv": re.findall(r"nextmv-queue (--[^`|\n]*)", TEXT + RULES)}
    for words, options in re.findall(r"nextmv (cloud [a-z]+ [a-z]+) (--[^<|#\n]*)", TEXT):
        ours.setdefault(words, []).append(options)
    assert len(ours) == 2
    for name, commands in ours.items():
        cli = [str(Path(sys.executable).with_name("nextmv")), *name.split()]
        command = cli if " " in name else [sys.executable, "-m", name]
        told = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
        asked = {option for each in commands for option in re.findall(r"--[a-z][a-z-]+", each)}
        assert asked
        assert all(option in told.stdout for option in asked), asked
