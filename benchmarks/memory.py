"""Peak memory of one scrape of the longest queue."""

from statistics import median

import requests

from benchmarks.programs import api, exporter, scrape
from benchmarks.scale import Scale
from benchmarks.table import Table, mebibytes
from nextmv_exporter.demo import DEMO_KEY


def measure(scale: Scale) -> Table:
    """Read the exporter's memory before its first scrape, and its peak after it.

    Args:
        scale: the longest queue, and a third of the rounds.

    Returns:
        The peak above idle, compared with the response's size.
    """
    runs = scale.sizes[-1]
    with api(runs) as queue:
        response = requests.get(
            queue.queue_url, headers={"Authorization": f"Bearer {DEMO_KEY}"}, timeout=60
        )
        size = len(response.content)
        growths = []
        for _ in range(max(1, scale.rounds // 3)):
            with exporter(queue) as program:
                requests.get(f"{program.url}/-/ready", timeout=60).raise_for_status()
                idle = program.memory("VmRSS")
                scrape(program)
                growths.append(program.memory("VmHWM") - idle)
    growth = median(growths)
    return Table(
        "Peak memory of one scrape, above idle",
        ("Runs", "Response", "Peak above idle", "Times the response"),
        [(f"{runs:,}", mebibytes(size), mebibytes(growth), f"{growth / size:.2f}")],
    )
