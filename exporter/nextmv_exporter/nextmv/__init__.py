"""Nextmv's account API as a small library: `Account(client=Client()).queue()`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nextmv_exporter.nextmv.account import Account, Queue, QueuedRun, StatusV2
    from nextmv_exporter.nextmv.client import Client

__all__ = ["Account", "Client", "Queue", "QueuedRun", "StatusV2"]


def __getattr__(name: str) -> Any:
    """Import a name when it is first accessed: scraping needs no pydantic."""
    if name in __all__:
        from nextmv_exporter.nextmv import account

        return getattr(account, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
