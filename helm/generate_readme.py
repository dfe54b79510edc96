"""Writes the chart's README.md from README.md.gotmpl, Chart.yaml and the comments in values.yaml.

Comments are those of helm-docs: `# --` above a key describes it, further `#` lines go on,
`# -- (int)` names a type that null doesn't show, and `# @default --` says in words what the default
is. A key so described is one row, with all below it.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

CHART = Path(__file__).parent / "nextmv-exporter"
DESCRIPTION = "# -- "
DEFAULT = "# @default -- "
TYPES = {
    "bool": "bool",
    "float": "float",
    "int": "int",
    "map": "object",
    "seq": "list",
    "str": "string",
}


class Value(NamedTuple):
    """One row of the table."""

    key: str
    type: str
    default: str
    description: str


def main() -> int:
    """Writes the README, or with `--check` only tells whether it is what would be written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if it is stale"
    )
    check = parser.parse_args().check

    readme = CHART / "README.md"
    text = render(CHART)
    if check and (not readme.exists() or readme.read_text() != text):
        print(f"{readme} is stale: run `make chart-docs`", file=sys.stderr)
        return 1
    if not check:
        readme.write_text(text)
    return 0


def render(chart: Path) -> str:
    """The README of the chart in a directory."""
    facts = yaml.safe_load((chart / "Chart.yaml").read_text())
    facts["values"] = table(values((chart / "values.yaml").read_text()))
    template = (chart / "README.md.gotmpl").read_text()
    return re.sub(r"{{ chart\.(\w+) }}", lambda match: str(facts[match[1]]), template)


def table(rows: Iterator[Value]) -> str:
    """The rows as a Markdown table."""
    lines = ["| key | type | default | description |", "|---|---|---|---|"]
    lines += [f"| `{row.key}` | {row.type} | {row.default} | {row.description} |" for row in rows]
    return "\n".join(lines)


def values(text: str) -> Iterator[Value]:
    """The described values of a values.yaml, in its order."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)  # noqa: S101 - a chart's values are a mapping
    yield from described(root, text.splitlines(), ())


def described(node: yaml.MappingNode, lines: list[str], above: tuple[str, ...]) -> Iterator[Value]:
    """The described values of a mapping, and of those in it that are not described as a whole."""
    for key_node, value_node in node.value:
        path = (*above, key_node.value)
        comment = comment_above(key_node.start_mark.line, lines)
        if comment:
            yield row(".".join(path), value_node, comment)
        elif isinstance(value_node, yaml.MappingNode):
            yield from described(value_node, lines, path)


def comment_above(line: int, lines: list[str]) -> list[str]:
    """The comment that stands above a line, from where it describes; empty if it doesn't."""
    block: list[str] = []
    while line and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        block.insert(0, lines[line].strip())
    while block and not block[0].startswith(DESCRIPTION):
        del block[0]
    return block


def row(key: str, node: yaml.Node, comment: list[str]) -> Value:
    """The row of a key, from its value and the comment above it."""
    words = " ".join(line.lstrip("# -") for line in comment if not line.startswith(DEFAULT))
    named = re.match(r"\(([\w ]+)\) ", words)
    description = words[named.end() :] if named else words
    default = " ".join(line.removeprefix(DEFAULT) for line in comment if line.startswith(DEFAULT))
    value = yaml.safe_load(yaml.serialize(node))
    return Value(
        key,
        named[1] if named else TYPES[node.tag.rpartition(":")[2]],
        default or f"`{json.dumps(value)}`",
        description.replace("|", "\\|"),
    )


if __name__ == "__main__":
    sys.exit(main())
