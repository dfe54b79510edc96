"""The table of the groups to look at first."""

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig, DynamicConfigValue

from grafana.dashboards import queries as promql
from grafana.dashboards.panels import latest, rows
from grafana.dashboards.values import CONSOLE, UNREADABLE, WAIT_LEVELS


def worst_groups() -> table.Panel:
    """Make the table of the groups to look at first.

    Returns:
        The panel.
    """
    titles = {
        "account": "Account",
        "application_id": "Application",
        "execution_class": "Execution class",
        "Value #age": "Oldest queued run",
        "Value #queued": "Queued",
        "Value #running": "Running",
        "job": "Job",
        "namespace": "Namespace",
        "cluster": "Cluster",
    }
    return (
        rows(
            31,
            "Worst groups",
            "The 25 groups whose oldest queued run has waited longest. The link of an application "
            "opens it in the Nextmv console, where its runs can be cancelled. __other__ holds what "
            "--queue.max-groups folded. A row without application is an account with nothing "
            "queued, or an account that is unreadable.",
            latest(promql.WORST_AGE, "age"),
            latest(promql.WORST_QUEUED, "queued"),
            latest(promql.WORST_RUNNING, "running"),
        )
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": {name: index for index, name in enumerate(titles)},
                    "renameByName": titles,
                },
            )
        )
        .with_transformation(
            DataTransformerConfig(
                id_val="sortBy", options={"sort": [{"field": "Oldest queued run", "desc": True}]}
            )
        )
        .mappings([UNREADABLE])
        .override_by_name(
            "Application",
            [
                DynamicConfigValue(
                    "links",
                    [
                        {
                            "title": "Open in the Nextmv console",
                            "url": f"{CONSOLE}/app/${{__value.raw:percentencode}}",
                            "targetBlank": True,
                        }
                    ],
                )
            ],
        )
        .override_by_name(
            "Oldest queued run",
            [
                DynamicConfigValue("unit", "s"),
                DynamicConfigValue("thresholds", WAIT_LEVELS.build()),
                DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
            ],
        )
    )
