"""A week of normal work, in which nobody is woken."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from demo_week import DAY, MINUTE, MONDAY, OfficeAccount, input_series
from support.programs import ROOT, run

from nextmv_exporter.demo.simulator import Simulator

RULES = ROOT / "grafana" / "alerts" / "nextmv-exporter.rules.yaml"
NOBODY_WAITS = "max(max_over_time(execution_class:nextmv_account_queue_length:sum[1d])) < 5"
NO_SERVICE_LEVEL = """
    count(count_over_time(execution_class:nextmv_account_queue_starts_late:burn_slow[1d])) != 3
"""


@pytest.mark.parametrize(
    "account",
    [
        pytest.param(lambda: Simulator(seed=1, start=MONDAY), id="the demo's traffic"),
        pytest.param(lambda: OfficeAccount(seed=1), id="quiet nights, and nothing at weekends"),
    ],
)
def test_no_alert_fires_in_a_week_of(account: Callable[[], Simulator], tmp_path: Path) -> None:
    days = [f"{day * DAY // MINUTE - 1}m" for day in range(1, 8)]
    never = ['count by (alertname) (count_over_time(ALERTS{alertstate="firing"}[1d]))']
    test = {
        # Every five minutes, as promtool loads no more samples for the long windows.
        "evaluation_interval": "5m",
        "rule_files": [str(RULES)],
        "tests": [
            {
                "interval": "1m",
                "input_series": input_series(account()),
                "promql_expr_test": [
                    {"expr": expr, "eval_time": day, "exp_samples": []}
                    for day in days
                    for expr in (
                        never if day != days[2] else [*never, NOBODY_WAITS, NO_SERVICE_LEVEL]
                    )
                ],
            }
        ],
    }
    (tmp_path / "week.yaml").write_text(json.dumps(test))
    run("promtool", "test", "rules", tmp_path / "week.yaml")
