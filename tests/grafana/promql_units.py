"""Derives the unit of a query from the names of its metrics."""

import re
from collections import Counter

Dimension = Counter[str] | None
"""Exponents of base units; None is 0 or NaN, which has any unit."""

UNITS = {"s": "s", "byte": "bytes", "": "percentunit", "count": "short"}
UNITS |= {"count/s": "reqps", "count/min": "suffix: runs/min"}
OPERATORS = [{"or"}, {"and", "unless"}, {"==", "!=", ">=", "<=", ">", "<"}, {"+", "-"}, {"*", "/"}]
FUNCTIONS = {"time": {"time": 1}, "count": {"count": 1}, "rate": {"count": 1, "s": -1}}
METRICS = {r"_timestamp_seconds": "time", r"_seconds(_bucket)?": "s", r"_bytes": "byte"}


def unit_of(query: str) -> str:
    """Return the unit, as Grafana names it, of what a query calculates.

    Args:
        query: PromQL, as far as the dashboard uses it.
    """
    # Besides selectors and the like, what a recorded series has around the metric's name.
    skipped = r"\w+:(?=nextmv)|:\w+(?=\{)|\{[^}]*\}|\[[^]]*\]|@ end\(\)|, \"[^)]*"
    skipped += r"|\b(by|on|ignoring|group_left) \([^)]*\)"
    tokens = re.findall(r"\d+\.\d+|\w+|[=!<>]=|[-+*/<>(),]", re.sub(skipped, "", query))
    dimension = operation(tokens)
    assert not tokens, f"not understood: {tokens}"
    assert dimension is not None, f"always 0 or NaN: {query}"
    above = "".join(unit for unit, power in dimension.items() if power == 1)
    below = "".join(f"/{unit}" for unit, power in dimension.items() if power == -1)
    return UNITS[above + below]


def operation(tokens: list[str], level: int = 0) -> Dimension:
    """Take an operation off the tokens, whose operators bind at least as much as the level's."""
    if level == len(OPERATORS):
        return operand(tokens)
    left = operation(tokens, level + 1)
    while tokens and tokens[0] in OPERATORS[level]:
        operator = tokens.pop(0)
        left = combined(left, operator, operation(tokens, level + 1))
    return left


def combined(left: Dimension, operator: str, right: Dimension) -> Dimension:
    if operator in {"*", "/"}:
        if left is None or right is None:
            return None
        sign = 1 if operator == "*" else -1
        powers = {unit: left[unit] + sign * right[unit] for unit in {*left, *right}}
        return Counter({unit: power for unit, power in powers.items() if power})
    if operator not in {"+", "-", "or"}:
        return left
    assert not left or not right or left == right, f"{left} {operator} {right}"
    return Counter(s=1) if operator == "-" and left == Counter(time=1) else left or right


def operand(tokens: list[str]) -> Dimension:
    name = "" if tokens[0] == "(" else tokens.pop(0)
    if name[:1].isdigit():
        # 60 seconds are a minute.
        return {"0": None, "60": Counter({"s": 1, "min": -1})}.get(name, Counter())
    if not tokens or tokens[0] != "(":
        units = (unit for suffix, unit in METRICS.items() if re.search(suffix + "$", name))
        return Counter([next(units, "count")])
    arguments: list[Dimension] = []
    first = next((each for each in tokens if "_seconds" in each), "")
    while tokens.pop(0) != ")":
        if tokens[0] != ")":
            arguments.append(operation(tokens))
    if name == "histogram_quantile":
        return operand([first])
    if name in FUNCTIONS:
        return Counter(FUNCTIONS[name])
    # Others keep the unit: of numbers such as the limit of topk, none has any.
    return max(arguments, key=lambda each: -1 if each is None else len(each))
