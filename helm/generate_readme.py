"""Writes the chart's README.md from README.md.gotmpl, Chart.yaml and the comments in values.yaml.

Comments are those of helm-docs: `# --` above a key describes it, further `#` lines go on, and
`# @default --` says in words what the default is. A key so described is one row, with all below it.
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
    return "\n".join(line.replace(" |  | ", " | | ") for line in lines)


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
        if comment is not None:
            description, default = comment
            value = yaml.safe_load(yaml.serialize(value_node))
            yield Value(
                ".".join(path),
                type_of(value_node),
                default or f"`{json.dumps(value)}`",
                description.replace("|", "\\|"),
            )
        elif isinstance(value_node, yaml.MappingNode):
            yield from described(value_node, lines, path)


def comment_above(line: int, lines: list[str]) -> tuple[str, str] | None:
    """The description that stands above a line, and the words for the default or an empty text."""
    block: list[str] = []
    while line and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        block.insert(0, lines[line].strip())
    while block and not block[0].startswith(DESCRIPTION):
        del block[0]
    if not block:
        return None
    defaults = [each.removeprefix(DEFAULT) for each in block if each.startswith(DEFAULT)]
    words = [
        each.removeprefix(DESCRIPTION).lstrip("# ")
        for each in block
        if not each.startswith(DEFAULT)
    ]
    return " ".join(words), " ".join(defaults)


def type_of(node: yaml.Node) -> str:
    """The name of a node's type, as helm-docs has it."""
    if isinstance(node, yaml.MappingNode):
        return "object"
    if isinstance(node, yaml.SequenceNode):
        return "list"
    return {"str": "string", "bool": "bool", "int": "int", "float": "float", "null": ""}[
        node.tag.rpartition(":")[2]
    ]


if __name__ == "__main__":
    sys.exit(main())
