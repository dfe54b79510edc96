"""From the response's bytes to runs, with no more of each than the metrics need."""

import json
from typing import Any

import msgspec

from exporter.nextmv.errors import InvalidResponseError


class Run(msgspec.Struct, gc=False):
    """What a run contributes to the metrics; None is a field that is absent or no text.

    Args:
        status_v2: the status, as the API writes it.
        execution_class: the execution class.
        application_id: ID of the application.
        created_at: when it was made, RFC 3339. It stays text until an age is needed.
    """

    status_v2: str | None = None
    execution_class: str | None = None
    application_id: str | None = None
    created_at: str | None = None


class _Queue(msgspec.Struct, gc=False):
    runs: list[Run]


_decoder = msgspec.json.Decoder(_Queue)


def parse_runs(body: bytes | bytearray) -> list[Run]:
    """Parse the answer of `v1/account/queue`.

    Bytes go straight into `Run`s. Only where that fails is the body read once more, by the
    standard library and run by run, so that one bad run never spoils the others.

    Args:
        body: the response's body, JSON.

    Returns:
        A run for each entry of `runs`; one that is no object has None everywhere.

    Raises:
        InvalidResponseError: not JSON, or no object with a list of `runs`.
    """
    try:
        return _decoder.decode(body).runs
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return [lenient_run(entry) for entry in _load(body)]


def _load(body: bytes | bytearray) -> list[Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        fault = "it nests too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidResponseError(f"the answer is not valid JSON: {fault}") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("runs"), list):
        raise InvalidResponseError('the answer is not an object with a list of "runs"')
    runs: list[Any] = answer["runs"]
    return runs


def lenient_run(entry: object) -> Run:
    """Take from a decoded entry what can be used of it.

    Args:
        entry: an entry of `runs`, of any type.

    Returns:
        The run.
    """
    if not isinstance(entry, dict):
        return Run()
    return Run(**{f: v for f in Run.__struct_fields__ if isinstance(v := entry.get(f), str)})
