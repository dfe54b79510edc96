"""Write a copy of the chart that names its home and its published image, for packaging.

The repository's own chart names neither, since both depend on where it is published. Home becomes
`home` and `sources` of Chart.yaml, from which the links to the runbooks follow; the image becomes
the default of `image.registry` and `image.repository`.
"""

import argparse
import re
import shutil
from pathlib import Path

CHART = Path(__file__).parent / "nextmv-exporter"


def main() -> None:
    """Write the copy that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", required=True, help="URL of the source's repository")
    parser.add_argument("--image", required=True, help="image with its registry, without a tag")
    parser.add_argument("output", type=Path, help="directory to write; must not exist")
    given = parser.parse_args()
    shutil.copytree(CHART, given.output)
    with (given.output / "Chart.yaml").open("a") as facts:
        facts.write(f"home: {given.home}\nsources: [{given.home}]\n")

    registry, _, repository = given.image.lower().partition("/")
    values = (given.output / "values.yaml").read_text()
    values, found = re.subn(
        r'(?m)^  registry: ""$((?:\n  #.*)*)\n  repository: nextmv-exporter$',
        rf"  registry: {registry}\1\n  repository: {repository}",
        values,
    )
    if found != 1:
        parser.error("values.yaml has no image to replace")
    (given.output / "values.yaml").write_text(values)


if __name__ == "__main__":
    main()
