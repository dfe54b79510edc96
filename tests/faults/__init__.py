"""What holds when everything around the exporter misbehaves."""
