"""Three replicas behind a Service, as docs/scaling.md shows, and one of them killed."""

import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.exporter import exporter_process
from support.fake_api import RUN, FakeAPI
from support.programs import profile, scraping, write_yaml
from support.service import Service
from support.waiting import until

pytestmark = pytest.mark.system

DOCUMENT = Path(__file__).parents[2] / "docs" / "scaling.md"
ACCOUNTS = 18
RUNS = 20


def documented(language: str, containing: str) -> Any:
    """The YAML of an example in docs/scaling.md."""
    blocks = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    [example] = [block for block in blocks if containing in block]
    return yaml.safe_load(example)


def job_of(ports: Sequence[int]) -> dict[str, Any]:
    """The documented scrape configuration, with the ports that the Service has here."""
    [job] = documented("yaml", "__tmp_slot")["scrape_configs"]
    job["http_sd_configs"] = [{"url": f"http://127.0.0.1:{ports[0]}/sd", "refresh_interval": "1s"}]
    del job["scrape_interval"]  # a scrape a second here
    # The document's ports are consecutive, which one rule can tell; here each is any free one.
    hashing, address = job["relabel_configs"]
    job["relabel_configs"] = [hashing] + [
        address
        | {
            "regex": address["regex"].replace(r"(\d)", str(slot)),
            "replacement": address["replacement"].replace("1006$2", str(port)),
        }
        for slot, port in enumerate(ports)
    ]
    return dict(job)


def test_killing_one_of_three_replicas_loses_nothing_but_scrapes_in_flight(
    tmp_path: Path, api: FakeAPI
) -> None:
    api.serves(*[RUN] * RUNS)
    with ExitStack() as stack:
        names = [f"account-{number}" for number in range(ACCOUNTS)]
        profiles = {name: profile(api.url, f"key-{n}") for n, name in enumerate(names)}
        file = write_yaml(tmp_path / "config.yaml", profiles)
        asked = ("--nextmv.config-file", str(file), "--nextmv.profile", "*")
        replicas = [stack.enter_context(exporter_process(*asked)) for _ in range(3)]
        service = stack.enter_context(Service([replica.url for replica in replicas], ports=6))
        prom = stack.enter_context(scraping(tmp_path, job_of(service.ports)))
        all_up = dict.fromkeys(names, 1.0)
        lengths = "sum by (instance) (nextmv_account_queue_length)"
        until(lambda: prom.by("instance", "nextmv_up") == all_up)
        series = prom.query("nextmv_account_queue_length")
        ports = {
            name: int(scraped.split(":")[2].split("/")[0])
            for name, scraped in prom.targets().items()
        }
        assert len(set(ports.values())) > 3
        assert len(set(service.chosen.values())) == 3

        killed = replicas[0]
        lost = {name for name in names if f"http://{service.chosen[ports[name]]}" == killed.url}
        assert lost
        killed.process.kill()

        def rescued() -> bool:
            scraped = prom.by("instance", "count_over_time(nextmv_up[3s])")
            return killed.url not in service.chosen.values() and min(scraped.values()) >= 2

        start = time.time()
        until(lambda: time.time() > start + 4 and rescued())
        assert prom.by("instance", "nextmv_up") == all_up
        assert prom.by("instance", lengths) == dict.fromkeys(names, float(RUNS))
        assert prom.query("nextmv_account_queue_length") == series
        assert len(prom.series("nextmv_account_queue_length")) == len(series)
        assert {f"http://{chosen}" for chosen in service.chosen.values()} == {
            replica.url for replica in replicas[1:]
        }
        failed = prom.by("instance", "count_over_time(up[5m]) - sum_over_time(up[5m])")
        assert max(failed[name] for name in lost) <= 1
        assert {name for name in names if failed[name]} <= lost
