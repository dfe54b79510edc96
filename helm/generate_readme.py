"""Write the chart's README.md from README.md.gotmpl, Chart.yaml and the comments in values.yaml.

The template and the comments are those of helm-docs, which writes the same file. A comment that
begins with `# --` describes the key below it, further `#` lines continue it, `# -- (int)` names a
type that null does not show, and `# @default --` replaces the default value by words. A key so
described is one row, with all below it.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
    """One row of the table of values."""

    key: str
    type: str
    default: str
    description: str


def main() -> int:
    """Write the README, or with `--check` only report whether it is up to date.

    Returns:
        The exit status: 1 when `--check` finds a stale README, else 0.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
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
    """Render the README of the chart in a directory."""
    templates = named_templates(
        yaml.safe_load((chart / "Chart.yaml").read_text()),
        sorted(values((chart / "values.yaml").read_text())),
    )
    text = re.sub(
        r'{{ template "chart\.(\w+)" \. }}',
        lambda match: templates[match[1]],
        (chart / "README.md.gotmpl").read_text(),
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def named_templates(facts: dict[str, Any], rows: list[Value]) -> dict[str, str]:
    """Return the text of those of helm-docs' named templates that the README uses."""
    home = facts.get("home")
    table = ["| Key | Type | Default | Description |", "|-----|------|---------|-------------|"]
    table += [f"| {row.key} | {row.type} | {row.default} | {row.description} |" for row in rows]
    return {
        "appVersion": facts["appVersion"],
        "description": facts["description"],
        "homepageLine": f"**Homepage:** <{home}>" if home else "",
        "valuesSection": "\n".join(["## Values", "", *table]),
        "version": facts["version"],
    }


def values(text: str) -> Iterator[Value]:
    """Yield the described values of a values.yaml."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)  # noqa: S101 - a chart's values are a mapping
    yield from described(root, text.splitlines(), ())


def described(node: yaml.MappingNode, lines: list[str], above: tuple[str, ...]) -> Iterator[Value]:
    """Yield the described values of a mapping and of the undescribed mappings in it."""
    for key_node, value_node in node.value:
        path = (*above, key_node.value)
        comment = comment_above(key_node.start_mark.line, lines)
        if comment:
            yield row(".".join(path), value_node, comment)
        elif isinstance(value_node, yaml.MappingNode):
            yield from described(value_node, lines, path)


def comment_above(line: int, lines: list[str]) -> list[str]:
    """Return the comment above a line, from where it describes; empty if it does not."""
    block: list[str] = []
    while line and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        block.insert(0, lines[line].strip())
    while block and not block[0].startswith(DESCRIPTION):
        del block[0]
    return block


def row(key: str, node: yaml.Node, comment: list[str]) -> Value:
    """Make the row of a key from its value and the comment above it."""
    words = " ".join(line.lstrip("# -") for line in comment if not line.startswith(DEFAULT))
    named = re.match(r"\(([\w ]+)\) ", words)
    description = words[named.end() :] if named else words
    default = " ".join(line.removeprefix(DEFAULT) for line in comment if line.startswith(DEFAULT))
    value = yaml.safe_load(yaml.serialize(node))
    shown = "nil" if value is None else json.dumps(value, separators=(",", ":"), sort_keys=True)
    return Value(
        key,
        named[1] if named else TYPES[node.tag.rpartition(":")[2]],
        default or f"`{shown}`",
        description.replace("|", "\\|"),
    )


if __name__ == "__main__":
    sys.exit(main())
