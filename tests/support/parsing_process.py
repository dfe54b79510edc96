"""A process that measures what a scrape of an account costs.

It reads the URL of an API and a limit of bytes from each line of standard input, scrapes the
account twice in a child of its own, and prints the peak of memory in bytes and what was read.
"""

import json
import os
import re
import sys
import threading
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from nextmv_exporter import Account, Client, QueueCollector


def resident(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def measure(url: str, limit: int) -> dict[str, object]:
    idle = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the peak
    client = Client("key", url, timeout=120, max_response_bytes=limit)
    registry = CollectorRegistry()
    registry.register(QueueCollector({"a": Account(client)}, timeout=120))
    threading.stack_size(4 << 20)  # as in the program
    for _ in range(2):
        text = generate_latest(registry).decode()
    peak = resident("VmHWM") - idle
    up = 'nextmv_up{account="a"} 1.0' in text
    length = re.findall(r"^nextmv_account_queue_length\{.*\} (.*)$", text, re.MULTILINE)
    return {"peak": peak, "up": up, "runs": sum(map(float, length))}


def main() -> None:
    for line in sys.stdin:
        reading, writing = os.pipe()
        if child := os.fork():
            os.close(writing)
            with os.fdopen(reading) as pipe:
                printed = pipe.read()
            _, status = os.waitpid(child, 0)
            sys.stdout.write(f"{printed or json.dumps({'died': status})}\n")
            sys.stdout.flush()
            continue
        url, limit = line.split()
        os.write(writing, json.dumps(measure(url, int(limit))).encode())
        os._exit(0)


if __name__ == "__main__":
    main()
