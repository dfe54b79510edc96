"""Repair objects in a forked process, which has only the thread that forked."""

import os
from typing import Protocol
from weakref import WeakSet


class _Forked(Protocol):
    def after_fork(self) -> None:
        """Replace locks, which another thread may have held, and connections of the parent."""


_objects: WeakSet[_Forked] = WeakSet()


def repair_after_fork(this: _Forked) -> None:
    """Call an object's `after_fork` in each process that is forked from this one.

    Args:
        this: the object; it is not kept alive.
    """
    _objects.add(this)


def _repair() -> None:
    for each in list(_objects):
        each.after_fork()


os.register_at_fork(after_in_child=_repair)
