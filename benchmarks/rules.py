"""What the rules cost Prometheus: the seconds that it takes to evaluate each group.

`python -m benchmarks.rules DIRECTORY` runs the `prometheus` and `promtool` of the PATH in an empty
directory. Prometheus scrapes accounts of the exporter, each as a target of its own, and has the
history that the rules look back on: a day of last starts, three days of late starts by the hour.
"""

import argparse
import json
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

CLASSES, APPLICATIONS = 10, 40
BUCKETS = (5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200, "+Inf")
RULES = Path(__file__).parents[1] / "grafana" / "alerts" / "nextmv-exporter.rules.yaml"
ADDRESS = "127.0.0.1:19090"
RECORDED = "execution_class:nextmv_account_queue"
HISTORY = {  # days, seconds between samples, value
    f"{RECORDED}_last_start_timestamp_seconds:max": (1, 30, "{time}"),
    f"{RECORDED}_starts_late:increase1h": (3, 120, "3"),
    f"{RECORDED}_starts_late_allowed:increase1h": (3, 120, "5"),
}


def exposition(account: str) -> Iterator[str]:
    """Return an account's metrics, line by line: for each group as many as the exporter has."""
    yield f'nextmv_up{{account="{account}"}} 1'
    yield f'nextmv_api_clock_offset_seconds{{account="{account}"}} 0'
    for number in range(CLASSES):
        of_class = f'account="{account}", execution_class="{number}c9500mb870s"'
        yield f"nextmv_execution_class_max_run_seconds{{{of_class}}} 870"
        yield f"nextmv_account_queue_last_start_timestamp_seconds{{{of_class}}} {time.time():.0f}"
        yield f"nextmv_account_queue_start_wait_seconds_count{{{of_class}}} {time.time():.0f}"
        for metric in ("wait_seconds_bucket", "start_wait_seconds_bucket"):
            for bound in BUCKETS:
                labels = f'{of_class}, le="{bound}"'
                yield f"nextmv_account_queue_{metric}{{{labels}}} {time.time():.0f}"
        for application in range(APPLICATIONS):
            group = f'{of_class}, application_id="application-{application}"'
            for status in ("queued", "running"):
                yield f'nextmv_account_queue_length{{{group}, status_v2="{status}"}} 3'
                yield f'nextmv_account_queue_runs_left_total{{{group}, status_v2="{status}"}} 5'
            for metric in (
                "oldest_queued_run_age_seconds",
                "oldest_queued_run_created_timestamp_seconds",
                "oldest_running_run_age_seconds",
                "runs_entered_total",
                "runs_started_total",
            ):
                yield f"nextmv_account_queue_{metric}{{{group}}} 60"


class Exporter(BaseHTTPRequestHandler):
    """Serves the metrics of the account that is asked for."""

    def do_GET(self) -> None:
        (account,) = parse_qs(urlsplit(self.path).query)["account"]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write("\n".join([*exposition(account), ""]).encode())

    def log_message(self, *_: object) -> None:
        """Keep silent."""


def write_history(file: Path, accounts: int) -> None:
    """Write what the rules have recorded so far."""
    now = int(time.time()) // 120 * 120
    with file.open("w") as history:
        for name, (days, step, value) in HISTORY.items():
            for account, number in product(range(accounts), range(CLASSES)):
                labels = f'account="{account}",execution_class="{number}c9500mb870s"'
                for at in range(now - days * 86_400, now, step):
                    sample = value.format(time=at)
                    history.write(f'{name}{{job="nextmv-exporter",{labels}}} {sample} {at}\n')
        history.write("# EOF\n")


def main() -> None:
    """Run Prometheus for some minutes, and print how long each group took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rules", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--accounts", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=5)
    options = parser.parse_args()
    directory = options.directory
    write_history(directory / "history", options.accounts)
    backfill = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet"]
    subprocess.run([*backfill, directory / "history", directory / "data"], check=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    relabel = [
        {"source_labels": ["__address__"], "target_label": "__param_account"},
        {"target_label": "__address__", "replacement": f"127.0.0.1:{server.server_port}"},
    ]
    targets = [{"targets": [str(account) for account in range(options.accounts)]}]
    job = {"static_configs": targets, "relabel_configs": relabel, "job_name": "nextmv-exporter"}
    config = {
        "global": {"scrape_interval": "30s", "evaluation_interval": "30s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [job],
    }
    (directory / "prometheus.yml").write_text(json.dumps(config))
    flags = {"config.file": "prometheus.yml", "storage.tsdb.path": "data", "log.level": "error"}
    command = [f"--{name}={value}" for name, value in flags.items()]
    prometheus = subprocess.Popen(
        ["prometheus", *command, f"--web.listen-address={ADDRESS}"], cwd=directory
    )
    try:
        seconds: dict[str, set[float]] = defaultdict(set)
        end = time.time() + 60 * options.minutes
        while time.time() < end:
            time.sleep(5)
            with urlopen(f"http://{ADDRESS}/api/v1/rules") as answer:
                for group in json.load(answer)["data"]["groups"]:
                    seconds[group["name"]].add(group["evaluationTime"])
    finally:
        prometheus.terminate()
        prometheus.wait()
    for name, found in seconds.items():
        later = sorted(found - {0})
        print(f"{name}: {later[0]:.2f} to {later[-1]:.2f} s, in {len(later)} evaluations")


if __name__ == "__main__":
    main()
