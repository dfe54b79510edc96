"""Each kind of panel, with the options that all panels of the kind share.

Ids are given by hand and never change or return: links and screenshots refer to them.
"""

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DynamicConfigValue,
    FieldColorModeId,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.dashboards.values import READABLE, UNREADABLE

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
ACCOUNT = "{{account}} {{job}} {{namespace}} {{cluster}}"
"""Legend of series by account; labels that a setup lacks show as nothing."""


def query(expr: str, legend: str = "", ref_id: str = "A") -> prometheus.Dataquery:
    """Query Prometheus over the time range.

    Args:
        expr: PromQL.
        legend: name of each series, with labels in double braces.
        ref_id: by which transformations and overrides know it.

    Returns:
        The query.
    """
    return (
        prometheus.Dataquery()
        .datasource(DATASOURCE)
        .expr(expr)
        .legend_format(legend)
        .range()
        .ref_id(ref_id)
    )


def latest(expr: str, ref_id: str = "A") -> prometheus.Dataquery:
    """Query Prometheus for a table of the values at the end of the time range.

    Args:
        expr: PromQL.
        ref_id: by which transformations and overrides know it.

    Returns:
        The query.
    """
    return query(expr, ref_id=ref_id).instant().format(PromQueryFormat.TABLE)


def number(panel_id: int, title: str, description: str, expr: str, unit: str) -> stat.Panel:
    """Show a number per account.

    Args:
        panel_id: unique in the dashboard.
        title: of the panel.
        description: what it means and what to do about it.
        expr: PromQL that gives one series per account.
        unit: as Grafana knows it.

    Returns:
        The panel, a sixth of the dashboard's width.
    """
    return (
        _stat(panel_id, title, description, expr, ACCOUNT)
        .unit(unit)
        .decimals(0)
        .mappings([UNREADABLE])
        .no_value("no data")
        .color_mode(BigValueColorMode.BACKGROUND)
        .height(5)
        .span(4)
    )


def names(panel_id: int, title: str, description: str, expr: str, legend: str) -> stat.Panel:
    """Show the labels of series, and not their values.

    Args:
        panel_id: unique in the dashboard.
        title: of the panel.
        description: what it means and what to do about it.
        expr: PromQL.
        legend: text to show for each series, with labels in double braces.

    Returns:
        The panel, half of the dashboard's width.
    """
    return (
        _stat(panel_id, title, description, expr, legend)
        .unit("short")
        .no_value("no exporter")
        .text_mode(BigValueTextMode.NAME)
        .color_mode(BigValueColorMode.NONE)
        .height(5)
        .span(12)
    )


def _stat(panel_id: int, title: str, description: str, expr: str, legend: str) -> stat.Panel:
    return (
        stat.Panel()
        .id(panel_id)
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        # Neither a range nor lastNotNull: they reach back past a gap or a NaN, to the last good
        # value of an account that cannot be read any more.
        .with_target(query(expr, legend).instant())
        .reduce_options(common.ReduceDataOptions().calcs(["last"]))
        .graph_mode(BigValueGraphMode.NONE)
    )


def lines(
    panel_id: int, title: str, description: str, unit: str, *queries: prometheus.Dataquery
) -> timeseries.Panel:
    """Draw series over time, with gaps where nothing is known.

    Args:
        panel_id: unique in the dashboard.
        title: of the panel.
        description: what it means and what to do about it.
        unit: as Grafana knows it.
        queries: one or several.

    Returns:
        The panel, half of the dashboard's width.
    """
    panel = (
        timeseries.Panel()
        .id(panel_id)
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .axis_soft_min(0)
        .span_nulls(False)
        .fill_opacity(10)
        .line_width(2)
        .no_value("no data")
        .tooltip(
            common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
        )
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .height(8)
        .span(12)
    )
    for each in queries:
        panel = panel.with_target(each)
    return panel


def stacked(panel: timeseries.Panel) -> timeseries.Panel:
    """Stack the series of a panel, so that their height is the sum.

    Args:
        panel: with series that add up.

    Returns:
        The panel.
    """
    return panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(35)


def with_levels_drawn(
    panel: timeseries.Panel, thresholds: dashboard.ThresholdsConfig
) -> timeseries.Panel:
    """Draw levels as dashed lines across a panel.

    Args:
        panel: with values of the levels' unit.
        thresholds: the levels.

    Returns:
        The panel.
    """
    style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
    return panel.thresholds(thresholds).thresholds_style(style)


def dashed(panel: timeseries.Panel, ref_id: str) -> timeseries.Panel:
    """Dash the lines of a query, to distinguish them from those of another.

    Args:
        panel: with several queries.
        ref_id: of the query.

    Returns:
        The panel.
    """
    style = {"fill": "dash", "dash": [8, 8]}
    return panel.override_by_query(
        ref_id,
        [
            DynamicConfigValue("custom.lineStyle", style),
            DynamicConfigValue("custom.fillOpacity", 0),
        ],
    )


def states(panel_id: int, title: str, description: str, expr: str) -> statetimeline.Panel:
    """Show over time when accounts were readable.

    Args:
        panel_id: unique in the dashboard.
        title: of the panel.
        description: what it means and what to do about it.
        expr: PromQL that gives 1 or 0 per account.

    Returns:
        The panel, as wide as the dashboard.
    """
    return (
        statetimeline.Panel()
        .id(panel_id)
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .with_target(query(expr, ACCOUNT))
        .unit("short")
        .mappings(READABLE)
        .no_value("no exporter")
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .merge_values(True)
        .height(4)
        .span(24)
    )


def rows(
    panel_id: int, title: str, description: str, *queries: prometheus.Dataquery
) -> table.Panel:
    """Show a table, as wide as the dashboard.

    Args:
        panel_id: unique in the dashboard.
        title: of the panel.
        description: what it means and what to do about it.
        queries: whose results share the labels that make a row.

    Returns:
        The panel.
    """
    panel = (
        table.Panel()
        .id(panel_id)
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit("short")
        .no_value("")
        .height(9)
        .span(24)
    )
    for each in queries:
        panel = panel.with_target(each)
    return panel
