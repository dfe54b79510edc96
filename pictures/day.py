"""A plot of a simulated day: scraped by the collector, stored and queried in a real Prometheus."""

import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests
from cycler import cycler
from matplotlib import dates, style
from matplotlib.figure import Figure
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest

from nextmv_exporter import Account, Client, QueueCollector
from nextmv_exporter.demo import DEMO_KEY
from nextmv_exporter.demo.catalogue import EXECUTION_CLASSES
from pictures.simulation import MIDNIGHT, simulated_account

HOUR = 3600
DAY = 24 * HOUR
INTERVAL = 30
"""Seconds from scrape to scrape."""

STEP = 300
"""Seconds from point to point of the plot."""

# The demo's own waves come every few minutes. Here they come with the hours of planners, and
# bring somewhat more runs than their class can execute: period and wave in hours, runs per second
# in a wave and between waves.
_WAVES = {
    "6c9500mb870s": (24, 3, 0.31, 0.12),
    "8c16gb120m": (12, 2.5, 0.066, 0.025),
    "16c60gb30m": (8, 2, 0.018, 0.006),
    "16c60gb12h": (24, 4, 0.0012, 0.0002),
}
CLASSES = [
    replace(each, period=period * HOUR, wave=wave * HOUR, rush=rush, calm=calm)
    for each in EXECUTION_CLASSES
    for period, wave, rush, calm in [_WAVES[each.name]]
]
_FIRST_WAVE = MIDNIGHT - 16 * HOUR
"""A moment in the midst of a wave of each class, at eight in the morning."""

NAMES = (
    "nextmv_account_queue_length",
    "nextmv_account_queue_runs_entered_total",
    "nextmv_account_queue_runs_started_total",
    "nextmv_account_queue_start_wait_seconds_bucket",
)

Line = tuple[Sequence[datetime], Sequence[float]]


@dataclass(frozen=True)
class Panel:
    """A part of the plot.

    Args:
        title: what it shows, with the unit.
        queries: PromQL by the name of the line; `{execution_class}` stands for the label's value.
    """

    title: str
    queries: Mapping[str, str]


PANELS = (
    Panel(
        "Queued runs by execution class",
        {
            "{execution_class}": "sum by (execution_class) "
            '(nextmv_account_queue_length{status_v2="queued"})'
        },
    ),
    Panel(
        "Arrivals and starts, runs per minute",
        {
            "arrivals": "60 * sum(rate(nextmv_account_queue_runs_entered_total[15m]))",
            "starts": "60 * sum(rate(nextmv_account_queue_runs_started_total[15m]))",
        },
    ),
    Panel(
        "Wait at start, minutes",
        {
            name: f"histogram_quantile({quantile}, sum by (le) "
            "(rate(nextmv_account_queue_start_wait_seconds_bucket[30m]))) / 60"
            for name, quantile in (("median", 0.5), ("95 %", 0.95))
        },
    ),
)
THEMES = {"light": "default", "dark": "dark_background"}
STYLE = {
    "axes.prop_cycle": cycler(color=["#3b82d6", "#e0862b", "#35a36b", "#d9596a"]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.xmargin": 0,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "svg.fonttype": "none",  # text stays text, which is smaller
    "svg.hashsalt": "nextmv-exporter",  # the same IDs each time
}


def draw(folder: Path) -> None:
    """Write `day-light.svg` and `day-dark.svg`.

    Args:
        folder: where to.
    """
    with TemporaryDirectory() as temporary, prometheus(Path(temporary)) as url:
        lines = [
            {
                name.format(**labels): line
                for name, query in panel.queries.items()
                for labels, line in query_range(url, query)
            }
            for panel in PANELS
        ]
    for name, theme in THEMES.items():
        with style.context([theme, STYLE]):
            picture = folder / f"day-{name}.svg"
            _figure(lines).savefig(picture, transparent=True, metadata={"Date": None})


def scrapes() -> Iterator[str]:
    """Scrape the account through a day; yield lines of OpenMetrics with timestamps."""
    with simulated_account(_FIRST_WAVE, CLASSES) as (clock, url):
        registry = CollectorRegistry()
        registry.register(QueueCollector({"demo": Account(Client(DEMO_KEY, url))}))
        for moment in range(int(MIDNIGHT) - HOUR, int(MIDNIGHT) + DAY, INTERVAL):
            clock.now = moment
            for line in generate_latest(registry).decode().splitlines():  # type: ignore[no-untyped-call]
                if line.startswith(NAMES):
                    yield f"{line} {moment}\n"
    yield "# EOF\n"


@contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """Run a Prometheus that holds the day; gives its URL."""
    samples = folder / "samples"
    with samples.open("w", encoding="utf-8") as file:
        file.writelines(scrapes())
    data = folder / "data"
    create = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(samples), str(data)]
    subprocess.run(create, check=True, stdout=subprocess.DEVNULL)
    config = folder / "prometheus.yml"
    config.touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address={address}",
        "--log.level=error",
    ]
    with subprocess.Popen(command) as process:
        try:
            while not _is_ready(f"http://{address}") and process.poll() is None:
                time.sleep(0.2)
            yield f"http://{address}"
        finally:
            process.terminate()


def query_range(url: str, query: str) -> Iterator[tuple[Mapping[str, str], Line]]:
    """Ask Prometheus for the lines of a query, in the order of their labels."""
    parameters: dict[str, Any] = {"query": query, "step": STEP}
    parameters |= {"start": MIDNIGHT, "end": MIDNIGHT + DAY - 1}
    response = requests.get(f"{url}/api/v1/query_range", parameters, timeout=60)
    response.raise_for_status()
    found = response.json()["data"]["result"]
    assert found, f"no data for {query}"
    for each in sorted(found, key=lambda each: sorted(each["metric"].items())):
        times = [datetime.fromtimestamp(moment, UTC) for moment, _ in each["values"]]
        yield each["metric"], (times, [float(value) for _, value in each["values"]])


def _is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/-/ready", timeout=5).ok
    except requests.ConnectionError:
        return False


def _figure(lines: Sequence[Mapping[str, Line]]) -> Figure:
    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.subplots(len(PANELS), sharex=True)
    for ax, panel, named in zip(axes, PANELS, lines, strict=True):
        for name, (times, values) in named.items():
            ax.plot(times, values, label=name)
        ax.set_title(panel.title)
        ax.set_ylim(bottom=0)
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, ncols=len(named))
    axes[-1].xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    return figure
