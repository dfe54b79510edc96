"""Dashboards, alerts and recording rules, as code. `python -m grafana` writes their files."""
