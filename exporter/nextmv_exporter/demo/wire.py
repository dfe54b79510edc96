"""Convert the demo's runs and applications to the JSON of the Nextmv API.

The fields are those that Nextmv's Python SDK reads, at version 1.13.0: its `QueuedRun`, `Run` and
`Application` models.
"""

from datetime import UTC, datetime
from typing import Any

from nextmv_exporter.demo.catalogue import Application
from nextmv_exporter.demo.runs import Run, Status

_RUNTIME = "ghcr.io/nextmv-io/runtime/python:3.11"

# `status` is older than queues, and has no values for queued and canceled runs.
_DEPRECATED_STATUS = {
    Status.QUEUED: "running",
    Status.RUNNING: "running",
    Status.SUCCEEDED: "succeeded",
    Status.FAILED: "failed",
    Status.CANCELED: "failed",
}


def queued_run(run: Run) -> dict[str, Any]:
    """Return a run as `v1/account/queue` lists it.

    Args:
        run: The run.

    Returns:
        The JSON object.
    """
    return {
        "id": run.id,
        "user_email": run.user_email,
        "name": run.name,
        "description": run.description,
        "created_at": _timestamp(run.created_at),
        "application_id": run.application_id,
        "application_instance_id": run.application_instance_id,
        "application_version_id": run.application_version_id,
        "execution_class": run.execution_class,
        "status": _DEPRECATED_STATUS[run.status],
        "status_v2": run.status,
    }


def listed_run(run: Run) -> dict[str, Any]:
    """Return a run as `v1/applications/{id}/runs` lists it.

    Args:
        run: The run.

    Returns:
        The JSON object.
    """
    return queued_run(run) | {
        "run_type": {"type": "standard", "definition_id": "", "reference_id": ""},
        "runtime": _RUNTIME,
        "queuing_priority": run.priority,
        "queuing_disabled": False,
    }


def application(app: Application) -> dict[str, Any]:
    """Return an application as `v1/applications` lists it.

    Args:
        app: The application.

    Returns:
        The JSON object.
    """
    return {
        "id": app.id,
        "name": app.name,
        "description": app.description,
        "type": "custom",
        "default_instance": "production",
        "locked": False,
        "created_at": _timestamp(app.created_at),
        "updated_at": _timestamp(app.created_at),
    }


def _timestamp(unix: float) -> str:
    """Format a time as RFC 3339 in UTC, truncated to milliseconds."""
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
