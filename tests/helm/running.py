"""An exporter as a process of its own, as a container engine would start it."""

import base64
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.exporter import exporter_process
from support.programs import free_port

from .chart import Manifest, render

Secrets = Mapping[str, Mapping[str, str]]


def get(url: str, **headers: str) -> tuple[int, str]:
    """The status and the text at a URL, whatever its certificate."""
    request = urllib.request.Request(url, headers=headers)
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(request, timeout=15, context=unverified) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class RunningPod:
    """The exporter's container of a rendered chart, its files under a directory, run as a process.

    Args:
        values: of the chart; the port is chosen here.
        directory: in which the container's mounts are made.
        secrets: contents of the Secrets that the chart doesn't make.
    """

    def __init__(
        self, values: dict[str, Any], directory: Path, secrets: Secrets | None = None
    ) -> None:
        self.port = free_port()
        self.manifests = render(values | {"containerPort": self.port})
        self._directory = directory
        [deployment] = [each for each in self.manifests if each["kind"] == "Deployment"]
        self._pod = deployment["spec"]["template"]["spec"]
        self.container = self._pod["containers"][0]
        self._secrets = {**self._own_secrets(), **(secrets or {})}
        self.mount(self._secrets)

    @property
    def url(self) -> str:
        """The URL of the process."""
        [service] = [arg for arg in self._test_command() if arg.startswith("http")]
        scheme = service.partition(":")[0]
        return f"{scheme}://127.0.0.1:{self.port}"

    @contextmanager
    def run(self) -> Iterator["RunningPod"]:
        """Runs it until the block ends."""
        arguments = [self._mapped(argument) for argument in self.container["args"]]
        with exporter_process(*arguments, environment=self._environment(), inherit=False):
            yield self

    def mount(self, secrets: Secrets) -> None:
        """Writes the files of the pod's volumes, each replaced at once, as the kubelet does."""
        volumes = {each["name"]: each for each in self._pod.get("volumes", [])}
        for mount in self.container.get("volumeMounts", []):
            source = volumes[mount["name"]]["secret"]
            contents = secrets[source["secretName"]]
            items = source.get("items") or [{"key": key, "path": key} for key in contents]
            target = self._directory / mount["mountPath"].lstrip("/")
            target.mkdir(parents=True, exist_ok=True)
            for item in items:
                text = contents[item["key"]]
                for mounted in self._mounts():  # files name each other
                    text = text.replace(mounted, self._mapped(mounted))
                fresh = target / ".fresh"
                fresh.write_text(text)
                fresh.replace(target / item["path"])

    def run_helm_test(self) -> subprocess.CompletedProcess[str]:
        """Runs the command of the chart's test pod against it."""
        python, *command = self._test_command()
        assert python == "python"
        return subprocess.run(
            [sys.executable, *(self._local(argument) for argument in command)],
            env={},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def run_probe(self, name: str) -> subprocess.CompletedProcess[str]:
        """Runs the command of a probe as the kubelet would, in the container."""
        program, *arguments = self.container[name]["exec"]["command"]
        assert program == "nextmv-exporter"
        return subprocess.run(
            [sys.executable, "-m", "nextmv_exporter", *map(self._mapped, arguments)],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def run_queue(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `nextmv-queue` as `kubectl exec` does, with the container's variables alone."""
        return subprocess.run(
            [sys.executable, "-m", "nextmv_exporter.nextmv", *arguments],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _test_command(self) -> list[str]:
        [pod] = [each for each in self.manifests if each["kind"] == "Pod"]
        container = pod["spec"]["containers"][0]
        return [*container["command"], *container["args"]]

    def _local(self, argument: str) -> str:
        """The Service's address as the one of the process."""
        return self.url if argument.startswith(("http://", "https://")) else argument

    def _own_secrets(self) -> dict[str, dict[str, str]]:
        return {
            each["metadata"]["name"]: {
                key: base64.b64decode(text).decode() for key, text in each["data"].items()
            }
            for each in self.manifests
            if each["kind"] == "Secret"
        }

    def _environment(self) -> dict[str, str]:
        given = {"PATH": os.environ["PATH"], "HOME": str(self._directory)}
        return given | {each["name"]: self._value(each) for each in self.container.get("env", [])}

    def _value(self, variable: Manifest) -> str:
        if "valueFrom" not in variable:
            return self._mapped(variable["value"])
        reference = variable["valueFrom"]["secretKeyRef"]
        return self._secrets[reference["name"]][reference["key"]]

    def _mounts(self) -> list[str]:
        return [mount["mountPath"] for mount in self.container.get("volumeMounts", [])]

    def _mapped(self, text: str) -> str:
        """A text in which the container's mounts are those of the directory."""
        for mounted in self._mounts():
            text = text.replace(mounted, f"{self._directory}{mounted}")
        return text
