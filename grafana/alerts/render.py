"""From the source of the rules to what Prometheus reads and to what the Helm chart renders."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from grafana.alerts.settings import SETTINGS, Setting, Value

SOURCE = Path(__file__).with_name("rules.source.yaml")

_PLACEHOLDER = re.compile(r"<<(\w+)>>")
_BY_CLASS_LINE = re.compile(r"^ *# <<oldestQueuedSecondsByClass>>\n", re.MULTILINE)
_PROMETHEUS_TEMPLATE = re.compile(r"\{\{.*?\}\}")
_BY_NAME = {setting.name: setting for setting in SETTINGS}

_THRESHOLD_RULE = """\
      - record: execution_class:nextmv_oldest_queued_run_age_seconds:threshold
        expr: vector({seconds})
        labels:
          execution_class: {execution_class}
"""


def plain_rules(values: Mapping[str, Value] | None = None) -> str:
    """Write the rules as Prometheus reads them.

    Args:
        values: settings that differ from their defaults, by name.

    Returns:
        The text of a rules file.

    Raises:
        KeyError: if a value, or a placeholder of the source, is no setting.

    Example:
        >>> "for: 1m" in plain_rules({"exporterDownFor": "1m"})
        True
    """
    values = values or {}
    if unknown := values.keys() - _BY_NAME.keys():
        raise KeyError(*sorted(unknown))
    by_class = values.get("oldestQueuedSecondsByClass", {})
    assert isinstance(by_class, Mapping)  # noqa: S101  narrows the type
    threshold_rules = "".join(
        _THRESHOLD_RULE.format(seconds=seconds, execution_class=f'"{execution_class}"')
        for execution_class, seconds in by_class.items()
    )
    source = _BY_CLASS_LINE.sub(threshold_rules, SOURCE.read_text())
    return _fill(source, lambda setting: str(values.get(setting.name, setting.default)))


def chart_rules() -> str:
    """Write the rules as a template for Helm's `tpl`, with settings taken from the values.

    Returns:
        The text of the template; it renders to the same as `plain_rules`.
    """
    source = _PROMETHEUS_TEMPLATE.sub(lambda found: "{{ `" + found[0] + "` }}", SOURCE.read_text())
    by_class = _BY_NAME["oldestQueuedSecondsByClass"].chart_value
    rule = _THRESHOLD_RULE.format(
        seconds="{{ $seconds }}", execution_class="{{ $executionClass | quote }}"
    )
    loop = (
        f"{{{{- range $executionClass, $seconds := .Values.{by_class} }}}}\n{rule}{{{{- end }}}}\n"
    )
    return _fill(
        _BY_CLASS_LINE.sub(lambda _: loop, source),
        lambda setting: f"{{{{ .Values.{setting.chart_value} }}}}",
    )


def _fill(source: str, text_of: Callable[[Setting], str]) -> str:
    return _PLACEHOLDER.sub(lambda found: text_of(_BY_NAME[found[1]]), source)
