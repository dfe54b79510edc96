"""The exporter's container as a process of its own, as a container engine would start it."""

import base64
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from support.exporter import Process, exporter_process

from .chart import Values, one, render

Secrets = Mapping[str, Mapping[str, str]]
MOUNTS = "/etc/nextmv-exporter"


class Pod:
    """The container of a rendered chart and its test, with their files under a directory.

    Args:
        values: of the chart.
        directory: in which the container's mounts are made.
        secrets: contents of the Secrets that the chart does not make.
    """

    def __init__(self, values: Values, directory: Path, secrets: Secrets | None = None) -> None:
        manifests = render(values)
        self._root = f"{directory}{MOUNTS}"
        self._pod = one("Deployment", manifests)["spec"]["template"]["spec"]
        self.container = self._pod["containers"][0]
        self._test = one("Pod", manifests)["spec"]["containers"][0]["args"]
        self._secrets = dict(secrets or {})
        for each in manifests:
            if each["kind"] == "Secret":
                texts = {key: base64.b64decode(text).decode() for key, text in each["data"].items()}
                self._secrets[each["metadata"]["name"]] = texts
        self.mount(self._secrets)

    def mount(self, secrets: Secrets) -> None:
        """Writes the files of the pod's volumes, each replaced at once, as the kubelet does."""
        volumes = {each["name"]: each["secret"] for each in self._pod.get("volumes", [])}
        for mount in self.container.get("volumeMounts", []):
            contents = secrets[volumes[mount["name"]]["secretName"]]
            every = [{"key": key, "path": key} for key in contents]
            for item in volumes[mount["name"]].get("items", every):
                target = Path(self._mapped(mount["mountPath"]), item["path"])
                target.parent.mkdir(parents=True, exist_ok=True)
                fresh = target.with_name(".fresh")
                fresh.write_text(self._mapped(contents[item["key"]]))
                fresh.replace(target)

    def run(self) -> AbstractContextManager[Process]:
        """Runs the exporter on a free port until the block ends."""
        arguments = [
            re.sub(r"(?<=listen-address=):\d+", "127.0.0.1:0", self._mapped(each))
            for each in self.container["args"]
        ]
        return exporter_process(*arguments, environment=self._environment(), inherit=False)

    def helm_test(self, exporter: Process) -> subprocess.CompletedProcess[str]:
        """Runs the command of the test's pod against it."""
        script, _, *arguments = self._test
        return self._python("-c", script, exporter.url, *arguments)

    def queue(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `nextmv-queue` as `kubectl exec` does, with the container's variables alone."""
        return self._python("-m", "nextmv_exporter.nextmv", *arguments)

    def _python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def _environment(self) -> dict[str, str]:
        variables = {"PATH": os.environ["PATH"], "HOME": self._root}
        for each in self.container.get("env", []):
            if reference := each.get("valueFrom", {}).get("secretKeyRef"):
                variables[each["name"]] = self._secrets[reference["name"]][reference["key"]]
            else:
                variables[each["name"]] = self._mapped(each["value"])
        return variables

    def _mapped(self, text: str) -> str:
        """A text in which the container's mounts are those of the directory."""
        return text.replace(MOUNTS, self._root)
