"""The commands of docs/scaling.md run as they are written, in a shell."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import requests
from support.programs import free_port
from support.waiting import until

SCALING = Path(__file__).parents[1] / "docs" / "scaling.md"
SOURCE = re.compile(r'(?m)^nextmv_source_info\{account="(.+)",source="(.+)"\} 1.0$')


def test_the_demo_of_many_accounts_runs_as_written(tmp_path: Path) -> None:
    section = SCALING.read_text().partition("\n## Try it\n")[2]
    start, then = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    removal, rest = then.split("\n", 1)
    accounts = [f"demo-{number}" for number in range(1, 21)]
    port = str(free_port())
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "NEXTMV_EXPORTER_WEB_LISTEN_ADDRESS": f"127.0.0.1:{port}",
    }

    def sources() -> dict[str, str]:
        text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
        return dict(SOURCE.findall(text))

    with subprocess.Popen(
        ["bash"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as shell:

        def run(commands: str) -> None:
            assert shell.stdin
            shell.stdin.write(commands.replace("/tmp/", f"{tmp_path}/").replace("10057", port))
            shell.stdin.flush()

        try:
            run(start)
            assert until(sources, what="the exporter") == dict.fromkeys(accounts, "account-queue")
            run(f"{removal}\n")
            expected = dict.fromkeys(accounts, "application-runs")
            until(lambda: sources() == expected, what="the removal")
            run(f"{rest}wait\n")
            out, err = shell.communicate(timeout=60)
        except BaseException:
            os.killpg(shell.pid, signal.SIGKILL)
            raise
    assert dict(SOURCE.findall(out)) == expected
    assert "level=error" not in err
    assert not any(line.startswith("nextmv-exporter: ") for line in err.splitlines())
