"""Repair objects in a forked process, which has only the thread that forked."""

import os
from collections.abc import Callable
from weakref import WeakMethod


def after_fork(repair: Callable[[], None]) -> None:
    """Call a method in each process that is forked from this one.

    Args:
        repair: a bound method. It replaces locks, which another thread may have held, and
            connections, which the parent uses. Its object is not kept alive.
    """
    reference = WeakMethod(repair)

    def call() -> None:
        if method := reference():
            method()

    os.register_at_fork(after_in_child=call)
