"""Stand-in until the parts are merged: nobody imports this module then."""

from nextmv_exporter.settings import Address

__all__ = ["MAX_DURATION", "Address"]

MAX_DURATION = 100 * 365 * 86400.0
