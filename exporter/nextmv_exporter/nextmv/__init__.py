"""Nextmv's account API as a small library: `Account(client=Client()).queue()`."""

from typing import TYPE_CHECKING, Any

from nextmv_exporter.nextmv.client import Client

if TYPE_CHECKING:
    from nextmv_exporter.nextmv.account import Account, Queue, QueuedRun, StatusV2

__all__ = ["Account", "Client", "Queue", "QueuedRun", "StatusV2"]


def __getattr__(name: str) -> Any:
    """Import the models when they are first accessed: scraping needs no pydantic."""
    if name in __all__:
        from nextmv_exporter.nextmv import account

        return getattr(account, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
