"""Each kind of panel, with the options that all panels of the kind share.

Arguments that several functions have:

- `panel_id`: given by hand; it never changes or returns, since links and screenshots refer to it.
- `title` and `description`: what the panel shows, and what to do about it.
- `unit`: as Grafana names it.
- `expr`: PromQL.
- `labels`: those that distinguish series, besides the account's.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import common, prometheus, stat, statetimeline
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import table as tables
from grafana_foundation_sdk.builders import timeseries as graphs
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana import queries as promql

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, ORANGE, RED, BLUE = "green", "orange", "red", "blue"
READABLE = models.ValueMap(
    options={
        "1": models.ValueMappingResult(text="up", color=GREEN, index=0),
        "0": models.ValueMappingResult(text="unreadable", color=RED, index=1),
    }
)
UNREADABLE = models.SpecialValueMap(
    options=models.DashboardSpecialValueMapOptions(
        match=models.SpecialValueMatch.NA_N,
        result=models.ValueMappingResult(text="unreadable", color=RED, index=0),
    )
)
NONE_STARTED = models.RangeMap(
    options=models.DashboardRangeMapOptions(
        from_val=promql.NEVER,
        to=None,
        result=models.ValueMappingResult(text="none started", color=RED, index=1),
    )
)
Panel = TypeVar("Panel", stat.Panel, statetimeline.Panel, tables.Panel, graphs.Panel)


def legend(*labels: str) -> str:
    """Name a series by its labels; those that a setup lacks show as nothing."""
    shown = (*labels, "account", "job", "namespace", "cluster")
    return " ".join(f"{{{{{label}}}}}" for label in shown)


def query(expr: str, name: str = "", ref_id: str = "A") -> prometheus.Dataquery:
    """Query Prometheus over the time range.

    `name` is the legend of each series; transformations and overrides know the query by `ref_id`.
    """
    target = prometheus.Dataquery().datasource(DATASOURCE).expr(expr)
    return target.legend_format(name).range().ref_id(ref_id)


def number(panel_id: int, title: str, description: str, unit: str, expr: str) -> stat.Panel:
    """Show the largest numbers, one for each account, in a sixth of the dashboard's width."""
    description += f" Shows the {promql.MOST} largest."
    return (
        _stat(panel_id, title, description, expr, legend())
        .unit(unit)
        .decimals(0)
        .mappings([UNREADABLE])
        .no_value("no data")
        .thresholds(levels(BLUE))
        .color_mode(options.BigValueColorMode.BACKGROUND)
        .span(4)
    )


def in_color(panel: stat.Panel, color: str, expr: str) -> stat.Panel:
    """Show in a colour of their own the accounts that a number's own query leaves out."""
    fixed = {"mode": "fixed", "fixedColor": color}
    target = query(f"topk({promql.MOST},\n{expr}\n)", legend(), color).instant()
    return panel.with_target(target).override_by_query(color, properties(color=fixed))


def names(panel_id: int, title: str, description: str, expr: str, name: str) -> stat.Panel:
    """Show series by name, without their values, in a quarter of the dashboard's width."""
    return (
        _stat(panel_id, title, description, expr, name)
        .unit("short")
        .no_value("no exporter")
        .text_mode(options.BigValueTextMode.NAME)
        .color_mode(options.BigValueColorMode.NONE)
        .height(8)
        .span(6)
    )


def _stat(panel_id: int, title: str, description: str, expr: str, name: str) -> stat.Panel:
    # Neither a range nor lastNotNull: they reach back past a gap or a NaN, to the last good value
    # of an account that cannot be read any more.
    return (
        _panel(stat.Panel(), panel_id, title, description, query(expr, name).instant())
        .reduce_options(common.ReduceDataOptions().calcs(["last"]))
        .graph_mode(options.BigValueGraphMode.NONE)
        .height(5)
    )


def lines(exprs: Mapping[str, str], *labels: str, rank: str = "") -> Sequence[prometheus.Dataquery]:
    """Query the series that are largest in the time range.

    `exprs` has each query by the text that the names of its lines begin with. `rank` is the query
    whose values are compared, the first by default.
    """
    rank = rank or next(iter(exprs.values()))
    return [
        query(promql.largest(expr, rank, *labels), f"{name} {legend(*labels)}".strip(), ref_id)
        for ref_id, (name, expr) in zip("AB", exprs.items(), strict=False)
    ]


def graph(
    panel_id: int,
    title: str,
    description: str,
    unit: str,
    queries: Sequence[prometheus.Dataquery],
) -> graphs.Panel:
    """Draw series over time in half of the dashboard's width, with gaps where nothing is known.

    The lines of a second query are dashed.
    """
    description += f" Shows the {promql.MOST} largest."
    tooltip = common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI)
    panel = (
        _panel(graphs.Panel(), panel_id, title, description, *queries)
        .unit(unit)
        .axis_soft_min(0)
        .span_nulls(span_nulls=False)
        .fill_opacity(10)
        .line_width(2)
        .no_value("no data")
        .tooltip(tooltip.sort(options.SortOrder.DESCENDING))
        .legend(
            common.VizLegendOptions()
            .display_mode(options.LegendDisplayMode.LIST)
            .placement(options.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .height(8)
        .span(12)
    )
    dashed = {"custom.lineStyle": {"fill": "dash", "dash": [8, 8]}, "custom.fillOpacity": 0}
    return panel if len(queries) == 1 else panel.override_by_query("B", properties(**dashed))


def stacked(panel: graphs.Panel) -> graphs.Panel:
    """Stack the series of a panel, so that their height is the sum."""
    stacking = common.StackingConfig().mode(options.StackingMode.NORMAL)
    return panel.stacking(stacking).fill_opacity(35)


def with_levels_drawn(panel: graphs.Panel, thresholds: builders.ThresholdsConfig) -> graphs.Panel:
    """Draw levels as dashed lines across a panel."""
    dashed = common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED)
    return panel.thresholds(thresholds).thresholds_style(dashed)


def states(panel_id: int, title: str, description: str, expr: str) -> statetimeline.Panel:
    """Show over time, as wide as the dashboard, when accounts were readable: 1 or 0."""
    return (
        _panel(statetimeline.Panel(), panel_id, title, description, query(expr, legend()))
        .unit("short")
        .mappings([READABLE])
        .no_value("no exporter")
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .merge_values(merge_values=True)
        .height(4)
        .span(24)
    )


def table(panel_id: int, title: str, description: str, exprs: Mapping[str, str]) -> tables.Panel:
    """Show the values at the end of the time range, with a row for each set of labels.

    `exprs` has each query by the name that transformations and overrides know it by.
    """
    targets = [
        query(expr, ref_id=name).instant().format(PromQueryFormat.TABLE)
        for name, expr in exprs.items()
    ]
    panel = _panel(tables.Panel(), panel_id, title, description, *targets)
    panel = panel.unit("short").no_value("").mappings([UNREADABLE]).height(9).span(24)
    return panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))


def levels(base: str, *steps: tuple[float, str]) -> builders.ThresholdsConfig:
    """Colour values by level: `base`, and from each step's value on the step's colour."""
    colors = [models.Threshold(None, base), *(models.Threshold(*step) for step in steps)]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(colors)


def properties(**values: Any) -> list[models.DynamicConfigValue]:
    """List what an override sets: values by the path of the property."""
    return [models.DynamicConfigValue(path, value) for path, value in values.items()]


def _panel(
    panel: Panel, panel_id: int, title: str, description: str, *queries: prometheus.Dataquery
) -> Panel:
    panel = panel.id(panel_id).title(title).description(description).datasource(DATASOURCE)
    for each in queries:
        panel = panel.with_target(each)
    return panel
