"""What the rules cost Prometheus: `python -m benchmarks.rules DIRECTORY`, an empty one.

It runs `prometheus` and `promtool` for five minutes, with a history of up to three days.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from statistics import median
from urllib.request import urlopen

ACCOUNTS, CLASSES, APPLICATIONS = range(100), range(10), range(40)
BOUNDS = (5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200, "+Inf")
# Names of metrics after `nextmv_account_queue_`, by what their series are distinguished by.
CLASS = ("last_start_timestamp_seconds", "start_wait_seconds_count")
BOUND = ("wait_seconds_bucket", "start_wait_seconds_bucket")
GROUP = ["oldest_queued_run_age_seconds", "oldest_queued_run_created_timestamp_seconds",
         "oldest_running_run_age_seconds", "runs_entered_total", "runs_started_total"]  # fmt: skip
STATUS = ("length", "runs_left_total")
RULES = Path(__file__).parents[1] / "grafana" / "alerts" / "nextmv-exporter.rules.yaml"
RECORDED = "execution_class:nextmv_account_queue_"  # days, and seconds between samples
HISTORY = {"last_start_timestamp_seconds:max": (1, 30), "starts_late:increase1h": (3, 120)}
HISTORY["starts_late_allowed:increase1h"] = 3, 120
ADDRESS = "127.0.0.1:19090"


def exposition(account: str) -> Iterator[str]:
    """Return an account's metrics, line by line; values that must change are the time."""
    now = int(time.time())
    yield f'nextmv_up{{account="{account}"}} 1'
    for number in CLASSES:
        labels = f'account="{account}",execution_class="{number}c9500mb870s"'
        yield f"nextmv_execution_class_max_run_seconds{{{labels}}} 870"
        yield from (f"nextmv_account_queue_{name}{{{labels}}} {now}" for name in CLASS)
        for name, bound in product(BOUND, BOUNDS):
            yield f'nextmv_account_queue_{name}{{{labels},le="{bound}"}} {now}'
        for application in APPLICATIONS:
            group = f'{labels},application_id="application-{application}"'
            yield from (f"nextmv_account_queue_{name}{{{group}}} 60" for name in GROUP)
            for name, status in product(STATUS, ("queued", "running")):
                yield f'nextmv_account_queue_{name}{{{group},status_v2="{status}"}} 3'


class Exporter(BaseHTTPRequestHandler):  # noqa: D101
    def do_GET(self) -> None:  # noqa: D102
        self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\r\n")
        self.wfile.write("\n".join([*exposition(self.path[1:]), ""]).encode())


def main(directory: Path) -> None:
    """Run Prometheus, and print the median and the longest time of each group's evaluations."""
    now = int(time.time()) // 120 * 120
    with (directory / "history").open("w") as file:
        for (name, (days, step)), account, number in product(HISTORY.items(), ACCOUNTS, CLASSES):
            labels = f'account="{account}",execution_class="{number}c9500mb870s"'
            for at in range(now - days * 86_400, now, step):
                file.write(f'{RECORDED}{name}{{job="nextmv-exporter",{labels}}} {at} {at}\n')
        file.write("# EOF\n")
    backfill = "promtool tsdb create-blocks-from openmetrics --quiet history data"
    subprocess.run(backfill.split(), cwd=directory, check=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = {"target_label": "__address__", "replacement": f"127.0.0.1:{server.server_port}"}
    path = {"source_labels": ["__address__"], "target_label": "__metrics_path__"}
    job = {"job_name": "nextmv-exporter", "relabel_configs": [path | {"replacement": "/$1"}, host],
           "static_configs": [{"targets": [f"{account}" for account in ACCOUNTS]}]}  # fmt: skip
    often = {"scrape_interval": "30s", "evaluation_interval": "30s"}
    config = {"global": often, "rule_files": [str(RULES)], "scrape_configs": [job]}
    (directory / "prometheus.yml").write_text(json.dumps(config))
    command = ["prometheus", "--storage.tsdb.path=data", f"--web.listen-address={ADDRESS}"]
    seconds: dict[str, set[float]] = {}
    with subprocess.Popen(command, cwd=directory) as prometheus:
        for _ in range(60):
            time.sleep(5)
            with urlopen(f"http://{ADDRESS}/api/v1/rules") as answer:
                for group in json.load(answer)["data"]["groups"]:
                    seconds.setdefault(group["name"], set()).add(group["evaluationTime"])
        prometheus.terminate()
    for name, found in seconds.items():
        print(f"{name}: {median(found):.2f} s, {max(found):.2f} s at most")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
