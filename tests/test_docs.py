"""The documentation against the program: links, flags, metrics, and what stands there to be run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import requests
import yaml
from support.fake_api import KEY, RUN, FakeAPI
from support.programs import free_port
from support.waiting import until

from nextmv_exporter.scrape.metrics import METRICS
from nextmv_exporter.settings import OPTIONS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), ROOT / "grafana/README.md"]
PAGES.append(ROOT / "helm/nextmv-exporter/README.md")
TEXT = {path: path.read_text(encoding="utf-8") for path in PAGES}
README, RUNNING = TEXT[ROOT / "README.md"], TEXT[DOCS / "running.md"]
BIN = Path(sys.executable).parent


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.*)$", text)
    made = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="(.+?)">', text))


def test_every_link_leads_to_a_file_and_a_heading_that_exist() -> None:
    found = [
        (page, *link.partition("#")[::2])
        for page, text in TEXT.items()
        for link in re.findall(r'\]\(([^)]+)\)|(?:src|srcset)="([^"]+)"', text)
        for link in filter(None, link)
        if "://" not in link
    ]
    assert len(found) > 40
    for page, path, anchor in found:
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name}: {path}"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{page.name}: #{anchor}"


def row_of(option: click.Option) -> str:
    """The row that docs/flags.md must have for a flag."""
    own = [name for name in option.envvar or () if not name.startswith("NEXTMV_EXPORTER_")]
    told = re.search(r" ?\[default: (.+)\]", option.help or "")
    default = option.default if isinstance(option.default, str) else told[1] if told else ""
    if isinstance(option.default, list | tuple):
        default = ",".join(option.default)
    cells = (
        f"`{option.opts[0]}`" + (" (repeatable)" if option.multiple else ""),
        ", ".join(f"`{name}`" for name in own),
        f"`{default}`" if default and " " not in default else default,
        re.sub(r" ?\[default: .+\]", "", option.help or ""),
    )
    return f"| {' | '.join(cells)} |"


def test_every_flag_has_its_row() -> None:
    text = TEXT[DOCS / "flags.md"]
    assert {"--demo", "--nextmv.profile", "--web.config.file"} <= {o.opts[0] for o in OPTIONS}
    for option in OPTIONS:
        assert row_of(option) in text, f"docs/flags.md: the row is {row_of(option)}"


def test_every_flag_variable_and_metric_that_is_named_exists() -> None:
    flags = {flag for option in OPTIONS for flag in option.opts}
    variables = {name for option in OPTIONS for name in option.envvar or ()}
    series = {name for metric in METRICS for name in (metric.name, *metric.series)}
    named: set[str] = set()
    for page, text in TEXT.items():
        if page.name == "CHANGELOG.md":  # which names what is gone
            continue
        for flag in re.findall(r"--(?:nextmv|queue|web|log)\.[a-z.-]*[a-z]", text):
            assert flag in flags, f"{page.name}: {flag}"
        for name in re.findall(r"\bNEXTMV_EXPORTER_[A-Z_]*[A-Z]\b", text):
            assert name in variables | {"NEXTMV_EXPORTER_REVISION"}, f"{page.name}: {name}"
        for name in re.findall(r"(?<![\w:])nextmv_[a-z_]+[a-z](?=[`{\[ ])", text):
            if name != "nextmv_exporter":
                assert name in series, f"{page.name}: {name}"
                named.add(name)
    assert len(named) > 15


def test_every_log_message_is_listed() -> None:
    listed = set(re.findall(r"(?m)^\| `(.+?)` \| (?:info|warn|error)", TEXT[DOCS / "logs.md"]))
    code = "\n".join(path.read_text() for path in (ROOT / "exporter").rglob("*.py"))
    logged = set(re.findall(r'log\.(?:info|warning|error|exception)\(\s*"([^"]+)"', code))
    assert {"Listening", "Scrape failed", "Accounts reloaded"} <= logged
    assert logged - {"Read"} <= listed  # which is an example
    assert [message for message in listed if message not in code] == []


def environment(api: FakeAPI) -> dict[str, str]:
    path = f"{BIN}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "NEXTMV_API_KEY": KEY, "NEXTMV_ENDPOINT": api.url}


def python(program: str, api: FakeAPI) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, env=environment(api), capture_output=True, text=True, check=True
    ).stdout


def test_the_collector_of_the_readme_is_scraped_from_a_program_of_its_own(api: FakeAPI) -> None:
    api.serves(RUN, RUN)
    [program] = blocks(README, "python")
    port = free_port()
    program = program.replace("9000", str(port)) + "\nimport time\ntime.sleep(600)\n"
    with subprocess.Popen([sys.executable, "-c", program], env=environment(api)) as process:
        try:
            url = f"http://127.0.0.1:{port}/metrics"
            metrics = until(lambda: requests.get(url, timeout=30).text, what="the server")
        finally:
            process.kill()
    assert 'nextmv_account_queue_runs{account="default",status_v2="queued"} 2.0' in metrics


def test_the_programs_of_the_documentation_run_alone(api: FakeAPI) -> None:
    api.serves(RUN)
    (api_home := Path(os.environ["HOME"]) / ".nextmv").mkdir()
    config = {"production": {"apikey": KEY, "endpoint": api.url}}
    (api_home / "config.yaml").write_text(yaml.safe_dump(config))
    naming, reading = blocks(RUNNING, "python")
    assert python(naming, api) == ""
    assert python(reading, api) == "run-1 queued 2026-11-23 10:00:00+00:00\n"


def test_the_textfile_recipe_keeps_the_file_and_its_time_when_it_fails(
    api: FakeAPI, tmp_path: Path
) -> None:
    [script] = blocks(RUNNING, "bash")
    assert "/var/lib/prometheus/node-exporter" in script
    here = script.replace("/var/lib/prometheus/node-exporter", str(tmp_path))
    file = tmp_path / "nextmv.prom"

    def run() -> int:
        return subprocess.run(
            ["bash", "-c", here], env=environment(api), capture_output=True, check=False
        ).returncode

    api.serves(RUN)
    assert run() == 0
    written, time = file.read_text(), file.stat().st_mtime_ns
    assert 'nextmv_up{account="default"} 1.0' in written
    assert not re.search(r"(?m)^(# \w+ )?(process|python)_", written)
    api.answers(401)
    assert run() != 0
    assert (file.read_text(), file.stat().st_mtime_ns) == (written, time)
    assert [path.name for path in tmp_path.glob("*.prom")] == ["nextmv.prom"]


@pytest.mark.system
def test_prometheus_accepts_the_scrape_configurations(tmp_path: Path) -> None:
    configs = [
        block
        for page in (ROOT / "README.md", DOCS / "scaling.md")
        for block in blocks(TEXT[page], "yaml")
        if block.startswith("scrape_configs:")
    ]
    assert len(configs) == 3
    for config in configs:
        file = tmp_path / "prometheus.yml"
        file.write_text(config)
        done = subprocess.run(
            ["promtool", "check", "config", file], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
