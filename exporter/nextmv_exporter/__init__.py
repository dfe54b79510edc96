"""Prometheus exporter for the run queue of Nextmv Cloud accounts.

Example:
    >>> from prometheus_client import REGISTRY
    >>> from nextmv_exporter import QueueCollector
    >>> REGISTRY.register(QueueCollector())  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nextmv_exporter.collector import QueueCollector
    from nextmv_exporter.nextmv.account import Account, Queue, QueuedRun, StatusV2
    from nextmv_exporter.nextmv.client import Client
    from nextmv_exporter.nextmv.errors import ConfigurationError, NextmvError

__version__ = "0.1.0"

__all__ = [
    "Account", "Client", "ConfigurationError", "NextmvError", "Queue", "QueueCollector",
    "QueuedRun", "StatusV2",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: the exporter starts without most of them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "collector" if name == "QueueCollector" else "nextmv"
    home += ".errors" if name.endswith("Error") else ""
    return getattr(import_module(f"{__name__}.{home}"), name)
