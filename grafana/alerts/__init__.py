"""Alerting and recording rules: one source, rendered for Prometheus and for the Helm chart."""
