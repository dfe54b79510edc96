"""Port of exporter-toolkit's web configuration: TLS, basic authentication and headers."""
