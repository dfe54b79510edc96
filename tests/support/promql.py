"""The queries of a document."""

import re
from pathlib import Path


def queries_of(document: Path) -> list[str]:
    """Each query in the PromQL of a document; a line that begins with an operator goes on."""
    queries: list[str] = []
    for block in re.findall(r"```promql\n(.*?)```", document.read_text("utf-8"), re.DOTALL):
        for line in block.splitlines():
            if line[0] in "/*>+-":
                queries[-1] += "\n" + line
            else:
                queries.append(line)
    return queries
