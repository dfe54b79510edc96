"""The account's queue as models, for use as a library.

The exporter itself parses the same response with less memory: see `nextmv_exporter.scrape.runs`.
"""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Self, TypeVar

import msgspec
from pydantic import BaseModel, BeforeValidator, ValidationError

from nextmv_exporter.deadline import Deadline
from nextmv_exporter.nextmv.client import MAX_REQUESTS, Budget, Client
from nextmv_exporter.nextmv.errors import InvalidResponseError, StatusError
from nextmv_exporter.nextmv.pages import ACCOUNT, APPLICATIONS, pages, runs_path


class StatusV2(StrEnum):
    """Status of a run, as Nextmv's API names it."""

    CANCELED = "canceled"
    FAILED = "failed"
    NONE = "none"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"


_YEAR_2000 = datetime(2000, 1, 1, tzinfo=UTC)


def _text(value: object) -> str | None:
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
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment if moment >= _YEAR_2000 else None


Model = TypeVar("Model", bound="_Model")
Page = TypeVar("Page", "_RunsPage", "_ApplicationsPage")
Text = Annotated[str | None, BeforeValidator(_text)]


class _Model(BaseModel):
    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Create the model from decoded JSON of the API.

        Args:
            data: the JSON object; unknown keys are ignored.

        Returns:
            The model.
        """
        return cls.model_validate(data)

    def to_dict(self) -> dict[str, Any]:
        """Return the model as JSON values.

        Returns:
            What `from_dict` accepts, without the fields that are None.
        """
        return self.model_dump(mode="json", exclude_none=True)


class QueuedRun(_Model):
    """A run that is queued or running. A field that is absent or of another type is None.

    Example:
        >>> QueuedRun.from_dict({"id": "run-1", "status_v2": "QUEUED"}).status_v2
        <StatusV2.QUEUED: 'queued'>
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
    status: Text = None
    """Deprecated by Nextmv in favour of `status_v2`."""
    status_v2: Annotated[StatusV2 | str | None, BeforeValidator(_status)] = None
    """A `StatusV2`, or the text itself if it is an unknown status."""


Runs = list[
    Annotated[
        QueuedRun, BeforeValidator(lambda run: run if isinstance(run, dict | QueuedRun) else {})
    ]
]


class Queue(_Model):
    """The runs of an account that are queued or running."""

    runs: Runs


class _RunsPage(_Model):
    runs: Runs | None = None
    next_page_token: Text = None


class _Application(_Model):
    id: str


class _ApplicationsPage(_Model):
    items: list[_Application] | None = None
    next_page_token: Text = None


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
        """Fetch the queue.

        Where the API no longer has the endpoint, the queue is assembled from the runs of each
        application that were created within a day.

        Returns:
            The queue; its `runs` are empty if none are queued or running.

        Raises:
            requests.HTTPError: the status is not 2xx.
            NextmvError: no valid response was received; a `requests.RequestException`.
        """
        path = f"{self.endpoint}/queue"
        deadline = Deadline(self.client.timeout)
        try:
            return _parsed(Queue, self.client.get(path, deadline=deadline), path)
        except StatusError as error:
            if not error.gone:
                raise
            try:
                return Queue(runs=self._runs_of_applications(deadline))
            except StatusError as other:
                if not other.gone:
                    raise
            raise

    def _runs_of_applications(self, deadline: Deadline) -> list[QueuedRun]:
        budget = Budget(self.client.max_response_bytes)
        oldest = datetime.now(UTC) - timedelta(days=1)

        def listed(path: str, model: type[Page]) -> Iterator[Page]:
            def get(params: Mapping[str, str]) -> Page:
                body = self.client.get(path, params=params, deadline=deadline, budget=budget)
                return _parsed(model, body, path)

            return pages(get, path)

        def runs(application_id: str) -> list[QueuedRun]:
            found: list[QueuedRun] = []
            try:
                for page in listed(runs_path(application_id), _RunsPage):
                    found += page.runs or ()
                    if found and found[-1].created_at and found[-1].created_at < oldest:
                        break
            except StatusError as error:
                if not error.gone:  # else it was deleted since it was listed
                    raise
            # One is on two pages if newer runs were added between the requests.
            unique = {run.id or object(): run for run in found}.values()
            return [run for run in unique if run.status_v2 in (StatusV2.QUEUED, StatusV2.RUNNING)]

        applications = {
            application.id: None
            for page in listed(APPLICATIONS, _ApplicationsPage)
            for application in page.items or ()
        }
        with ThreadPoolExecutor(MAX_REQUESTS) as pool:
            fetches = [pool.submit(runs, application) for application in applications]
            try:
                for fetch in as_completed(fetches):
                    fetch.result()  # raises the first error
            except BaseException:
                deadline.cancel()  # or the pool would wait for the other requests
                raise
        return [run for fetch in fetches for run in fetch.result()]


def _parsed(model: type[Model], body: bytearray, path: str) -> Model:
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        fault = error.errors()[0]["msg"]
    try:  # the standard library accepts more, such as lone surrogates
        return model.model_validate(json.loads(body, parse_int=float))
    except (ValueError, RecursionError):
        raise InvalidResponseError(f"{path}: {fault}") from None
