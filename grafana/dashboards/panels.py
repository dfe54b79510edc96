"""The house style: every kind of panel that the dashboard has, with what all of its kind share."""

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import DataSourceRef, FieldColorModeId
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.dashboards.values import READABLE, UNREADABLE

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


def query(expr: str, legend: str = "", ref_id: str = "A") -> prometheus.Dataquery:
    """Ask Prometheus over the time range.

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
    """Ask Prometheus for a table of how things stand at the end of the time range.

    Args:
        expr: PromQL.
        ref_id: by which transformations and overrides know it.

    Returns:
        The query.
    """
    return query(expr, ref_id=ref_id).instant().format(PromQueryFormat.TABLE)


def number(title: str, description: str, expr: str, unit: str) -> stat.Panel:
    """Show a number per account, large.

    Args:
        title: of the panel.
        description: what to do about it.
        expr: PromQL that gives one series per account.
        unit: as Grafana knows it.

    Returns:
        The panel.
    """
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        # Neither a range nor lastNotNull: they reach back past a gap or a NaN, to the last good
        # value of an account that can't be read any more.
        .with_target(query(expr, "{{account}}").instant())
        .reduce_options(common.ReduceDataOptions().calcs(["last"]))
        .unit(unit)
        .decimals(0)
        .mappings([UNREADABLE])
        .no_value("no exporter")
        .color_mode(BigValueColorMode.BACKGROUND)
        .graph_mode(BigValueGraphMode.NONE)
        .height(5)
    )


def lines(
    title: str, description: str, unit: str, *queries: prometheus.Dataquery
) -> timeseries.Panel:
    """Draw series over time, with gaps where nothing is known.

    Args:
        title: of the panel.
        description: what to do about it.
        unit: as Grafana knows it.
        queries: one or several.

    Returns:
        The panel, half as wide as the dashboard.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .axis_soft_min(0)
        .span_nulls(False)
        .fill_opacity(10)
        .line_width(2)
        .no_value("unreadable, or no exporter")
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


def states(title: str, description: str, expr: str) -> statetimeline.Panel:
    """Show over time when accounts were readable.

    Args:
        title: of the panel.
        description: what to do about it.
        expr: PromQL that gives 1 or 0 per account.

    Returns:
        The panel, as wide as the dashboard.
    """
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .with_target(query(expr, "{{account}}"))
        .unit("short")
        .mappings(READABLE)
        .no_value("no exporter")
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .merge_values(True)
        .height(4)
        .span(24)
    )


def buckets(title: str, description: str, expr: str) -> heatmap.Panel:
    """Draw buckets over time as a heatmap.

    Args:
        title: of the panel.
        description: what to do about it.
        expr: PromQL that gives one series per `le`, in seconds.

    Returns:
        The panel, half as wide as the dashboard.
    """
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .with_target(query(expr, "{{le}}").format(PromQueryFormat.HEATMAP))
        .unit("short")
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .filter_values(heatmap.FilterValueRange().le(0))
        .no_value("unreadable, or no exporter")
        .height(8)
        .span(12)
    )


def rows(title: str, description: str, *queries: prometheus.Dataquery) -> table.Panel:
    """Show a table, as wide as the dashboard.

    Args:
        title: of the panel.
        description: what to do about it.
        queries: whose results share the labels that make a row.

    Returns:
        The panel.
    """
    panel = (
        table.Panel()
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
