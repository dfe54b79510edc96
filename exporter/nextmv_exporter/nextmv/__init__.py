"""Nextmv's account API as a small library: `Account(client=Client()).queue()`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nextmv_exporter.nextmv.account import Account, Queue, QueuedRun, StatusV2
    from nextmv_exporter.nextmv.client import Client

__all__ = ["Account", "Client", "Queue", "QueuedRun", "StatusV2"]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: scraping needs no pydantic."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "client" if name == "Client" else "account"
    return getattr(import_module(f"{__name__}.{home}"), name)
