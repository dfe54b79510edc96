"""The programs run inside this process, which is fast."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from support.logs import capture_logs


@dataclass(frozen=True)
class Ended:
    """What a program has printed, and its status."""

    status: int
    out: str
    err: str


class Command:
    """A program, run with its logs kept apart.

    Args:
        main: ends with `SystemExit`.
        capfd: captures what is written.
    """

    def __init__(
        self, main: Callable[[Sequence[str]], None], capfd: pytest.CaptureFixture[str]
    ) -> None:
        self._main = main
        self._capfd = capfd

    def __call__(self, *arguments: str, **variables: str) -> Ended:
        """Run it with these variables in its environment."""
        with pytest.MonkeyPatch.context() as patch, capture_logs():
            patch.setattr("nextmv_exporter.logs.configure", lambda *_: None)
            for name, text in variables.items():
                patch.setenv(name, text)
            with pytest.raises(SystemExit) as ended:
                self._main(arguments)
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, *self._capfd.readouterr())
