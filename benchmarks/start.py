"""Start: from the process's start to its first completed scrape."""

import subprocess
import time
from statistics import median

from benchmarks.installation import exporter_python
from benchmarks.programs import API, api, exporter, scrape
from benchmarks.rounds import ratio
from benchmarks.scale import Scale
from benchmarks.table import Table, milliseconds

RUNS = 100
_IMPORTS = "import prometheus_client, requests, pydantic"


def measure(scale: Scale) -> Table:
    """Start the exporter and an interpreter that imports three libraries, in turn.

    Args:
        scale: how many rounds, and whether in a fresh environment.

    Returns:
        The times, and their ratio.
    """
    times: dict[str, list[float]] = {"imports": [], "exporter": []}
    with exporter_python(fresh=scale.install) as python, api(RUNS) as queue:
        for _ in range(scale.rounds):
            times["imports"].append(_imports(python))
            times["exporter"].append(_first_scrape(queue, python))
    return Table(
        "Start: process start to first completed scrape",
        (f'python -c "{_IMPORTS}"', "Exporter", "Ratio"),
        [
            (
                milliseconds(median(times["imports"])),
                milliseconds(median(times["exporter"])),
                f"{ratio(times, 'exporter', 'imports'):.2f}",
            )
        ],
    )


def _imports(python: str) -> float:
    start = time.perf_counter()
    subprocess.run([python, "-c", _IMPORTS], check=True)
    return time.perf_counter() - start


def _first_scrape(queue: API, python: str) -> float:
    start = time.perf_counter()
    with exporter(queue, python) as program:
        scrape(program)
        return time.perf_counter() - start
