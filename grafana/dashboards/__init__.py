"""Dashboards for Grafana, and the JSON made from them."""
