"""Memory and CPU of an exporter that is scraped every 15 seconds."""

import time

from benchmarks.installation import exporter_python
from benchmarks.programs import api, exporter, scrape
from benchmarks.scale import Scale
from benchmarks.table import Table, mebibytes

RUNS = 1_000
_INTERVAL = 15.0


def measure(scale: Scale) -> Table:
    """Measure an exporter with little load.

    Args:
        scale: for how long, and whether in a fresh environment.

    Returns:
        Its memory, and its share of a core.
    """
    with (
        exporter_python(fresh=scale.install) as python,
        api(RUNS) as queue,
        exporter(queue, python) as program,
    ):
        scrape(program)
        start, used = time.monotonic(), program.cpu()
        while (elapsed := time.monotonic() - start) < scale.idle:
            time.sleep(min(_INTERVAL, scale.idle - elapsed))
            scrape(program)
        share = (program.cpu() - used) / elapsed
        memory = program.memory("VmRSS")
    return Table(
        f"Idle: {scale.idle:.0f} s with a scrape every {_INTERVAL:.0f} s, at {RUNS:,} runs",
        ("Memory (RSS)", "CPU, of one core"),
        [(mebibytes(memory), f"{share:.2%}")],
    )
