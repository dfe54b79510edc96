"""Results, as tables in Markdown."""

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

Row = Sequence[str]


@dataclass(frozen=True)
class Table:
    """The result of one benchmark.

    Args:
        title: its title.
        columns: heads of the columns.
        rows: the cells.
        faults: counts that are not as they must be on any machine.
    """

    title: str
    columns: Row
    rows: Sequence[Row]
    faults: Sequence[str] = field(default=())

    def __str__(self) -> str:
        """Write the table in Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join((f"### {self.title}", "", *(f"| {' | '.join(line)} |" for line in lines)))


def surroundings() -> str:
    """Describe the machine and the versions of the relevant packages."""
    packages = ("nextmv-exporter", "msgspec", "orjson", "prometheus-client", "nextmv", "uvicorn")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{_processor()}, {os.cpu_count()} cores, {_memory():.0f} GiB; {platform.system()} "
        f"{platform.release()}; {platform.python_implementation()} {platform.python_version()}; "
        f"{versions}"
    )


def milliseconds(seconds: float) -> str:
    """Write a time."""
    time = seconds * 1000
    return f"{time:,.0f} ms" if time >= 100 else f"{time:.3g} ms"


def mebibytes(size: float) -> str:
    """Write a size in MiB."""
    return f"{size / 2**20:.1f} MiB"


def _processor() -> str:
    return _proc(Path("/proc/cpuinfo")).get("model name", platform.machine())


def _memory() -> float:
    return float(_proc(Path("/proc/meminfo"))["MemTotal"].split()[0]) / 2**20


def _proc(path: Path) -> Mapping[str, str]:
    def entries() -> Iterator[tuple[str, str]]:
        for line in path.read_text().splitlines():
            key, _, value = line.partition(":")
            yield key.strip(), value.strip()

    return dict(entries())
