"""Write a copy of the chart that names its home and its published image, for packaging.

The repository's own chart names neither, since both depend on where it is published. Home becomes
`home` and `sources` of Chart.yaml, from which the README's link and the links to the runbooks
follow; the image becomes the default of `image.registry` and `image.repository`.
"""

import argparse
import re
import shutil
import sys
from pathlib import Path

import yaml
from generate_readme import CHART, render


def main() -> int:
    """Write the copy that the command line asks for.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", required=True, help="URL of the source's repository")
    parser.add_argument("--image", required=True, help="image with its registry, without a tag")
    parser.add_argument("output", type=Path, help="directory to write; must not exist")
    arguments = parser.parse_args()
    prepare(arguments.home, arguments.image, arguments.output)
    return 0


def prepare(home: str, image: str, output: Path) -> None:
    """Write a copy of the chart.

    Args:
        home: URL of the source's repository.
        image: the image, with its registry and without a tag.
        output: directory to write.
    """
    shutil.copytree(CHART, output)
    registry, _, repository = image.lower().partition("/")

    facts = yaml.safe_load((output / "Chart.yaml").read_text())
    facts |= {"home": home, "sources": [home]}
    (output / "Chart.yaml").write_text(yaml.safe_dump(facts, sort_keys=False))

    values = (output / "values.yaml").read_text()
    values = replace_once(r'(?m)^  registry: ""$', f"  registry: {registry}", values)
    values = replace_once(r"(?m)^  repository: .*$", f"  repository: {repository}", values)
    (output / "values.yaml").write_text(values)

    (output / "README.md").write_text(render(output))


def replace_once(pattern: str, replacement: str, text: str) -> str:
    """Replace a pattern that occurs exactly once; raise if it does not."""
    text, count = re.subn(pattern, replacement, text)
    if count != 1:
        raise ValueError(f"{pattern!r} occurs {count} times, expected once")
    return text


if __name__ == "__main__":
    sys.exit(main())
