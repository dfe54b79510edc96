"""A scrape, step by step: bytes, runs, summary, metric families, text."""
