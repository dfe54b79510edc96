"""Nextmv's own SDK, asked for the key and the endpoint that it finds.

A program of its own, since the SDK fixes the place of its configuration file when it is imported.
It reads cases as JSON from stdin and writes what the SDK makes of each to stdout.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from nextmv.cloud import Client  # type: ignore[import-untyped]


def ask(environment: dict[str, str], config: str | None, given: dict[str, Any]) -> list[Any] | str:
    file = Path.home() / ".nextmv" / "config.yaml"
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    if config is not None:
        file.write_text(config)
    os.environ.update(environment)
    try:
        client = Client(**given)
    except Exception:  # noqa: BLE001 - whatever it raises, it found none
        return "error"
    finally:
        for name in environment:
            del os.environ[name]
    return [client.api_key, client.url]


if __name__ == "__main__":
    json.dump([ask(*case) for case in json.load(sys.stdin)], sys.stdout)
