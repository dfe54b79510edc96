"""The account's queue as models, for use as a library."""

import threading
from concurrent.futures import Future
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Self, overload

import msgspec
from pydantic import BaseModel, BeforeValidator

from nextmv_exporter.nextmv.client import Client, Deadline
from nextmv_exporter.nextmv.errors import DeadlineExceededError
from nextmv_exporter.scrape.runs import DetailedRun, created_timestamp
from nextmv_exporter.scrape.sources import ACCOUNT, Fetched, SourceState, fetch_runs

_GRACE = 0.5
"""Seconds after which an error that names what is late does not come any more."""


class StatusV2(StrEnum):
    """Status of a run, as Nextmv's API and SDK name it; the names work in capitals too."""

    canceled = CANCELED = "canceled"
    failed = FAILED = "failed"
    none = NONE = "none"
    queued = QUEUED = "queued"
    running = RUNNING = "running"
    succeeded = SUCCEEDED = "succeeded"


def _text(value: object) -> str | None:
    if isinstance(value, msgspec.Raw):
        try:
            return msgspec.json.decode(value, type=str | None)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
    # Lone surrogates, which JSON may contain, are not valid text: they become question marks.
    return value.encode(errors="replace").decode() if isinstance(value, str) else None


def _status(value: object) -> StatusV2 | str | None:
    text = _text(value)
    try:
        return StatusV2(text.lower()) if text else None
    except ValueError:
        return text


def _created_at(value: object) -> datetime | None:
    try:
        moment = msgspec.convert(value, datetime)  # as the exporter decodes it
    except (msgspec.ValidationError, UnicodeError):
        return None
    if created_timestamp(moment) is None:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class _Model(BaseModel):
    @overload
    @classmethod
    def from_dict(cls, data: None = None) -> None: ...

    @overload
    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self: ...

    @classmethod
    def from_dict(cls, data: dict[str, Any] | None = None) -> Self | None:
        """Create the model from decoded JSON of the API.

        Args:
            data: the JSON object; unknown keys are ignored.

        Returns:
            The model; None if there is no object, as in Nextmv's SDK.
        """
        return None if data is None else cls.model_validate(data)

    def to_dict(self) -> dict[str, Any]:
        """Return the model as JSON values.

        Returns:
            What `from_dict` accepts, without the fields that are None.
        """
        return self.model_dump(mode="json", exclude_none=True)


Text = Annotated[str | None, BeforeValidator(_text)]


class QueuedRun(_Model):
    """A run that is queued or running. A field that is absent or of another type is None.

    Example:
        >>> QueuedRun.from_dict({"id": "run-1", "status_v2": "QUEUED"}).status_v2
        <StatusV2.queued: 'queued'>
    """

    id: Text = None
    user_email: Text = None
    name: Text = None
    description: Text = None
    created_at: Annotated[datetime | None, BeforeValidator(_created_at)] = None
    """When the run was created; UTC if the API gives no offset, None if it is before the year
    2000, as Go's zero time is."""
    application_id: Text = None
    application_instance_id: Text = None
    application_version_id: Text = None
    execution_class: Text = None
    status_v2: Annotated[StatusV2 | str | None, BeforeValidator(_status)] = None
    """A `StatusV2`, or the text itself if it is an unknown status."""


def _run(value: object) -> object:
    return value if isinstance(value, dict | QueuedRun) else {}


class Queue(_Model):
    """The runs of an account that are queued or running."""

    runs: list[Annotated[QueuedRun, BeforeValidator(_run)]]


class Account:
    """A Nextmv account.

    Args:
        client: sends the requests.
        endpoint: path of the account in the API.

    Example:
        >>> account = Account(client=Client(api_key="your-api-key"))
        >>> len(account.queue().runs)  # doctest: +SKIP
        3
    """

    def __init__(self, client: Client, endpoint: str = ACCOUNT) -> None:
        self.client = client
        self.endpoint = endpoint

    def queue(self, *, source: str = "auto", run_lookback: float = 86400.0) -> Queue:
        """Fetch the queue, through the same code as the exporter.

        If the API no longer has the endpoint, the queue is assembled from the runs of each
        application that were created within a day.

        Args:
            source: `auto`, `account-queue` or `application-runs`, as `--nextmv.source`.
            run_lookback: maximum age of a run to be found by `application-runs`, seconds.

        Returns:
            The queue; its `runs` are empty if none are queued or running.

        Raises:
            requests.HTTPError: the status is not 2xx.
            NextmvError: no valid response was received; a `requests.RequestException`.
        """
        deadline = Deadline(self.client.timeout)
        read = partial(fetch_runs, self.client, SourceState(), deadline, endpoint=self.endpoint)
        fetched: Future[Fetched] = Future()

        def fetch() -> None:
            try:
                fetched.set_result(read(choice=source, lookback=run_lookback, kind=DetailedRun))
            except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
                fetched.set_exception(error)

        # In a thread of its own, since a response whose head drips in may come much later.
        threading.Thread(target=fetch, name="fetch queue", daemon=True).start()
        try:
            runs = fetched.result(deadline.remaining() + _GRACE).runs
        except TimeoutError:
            raise DeadlineExceededError("timed out before the full response was received") from None
        return Queue.from_dict({"runs": [msgspec.structs.asdict(run) for run in runs]})
