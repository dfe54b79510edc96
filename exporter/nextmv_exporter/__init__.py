"""Prometheus exporter for the run queue of Nextmv Cloud accounts."""

__version__ = "0.1.0"
