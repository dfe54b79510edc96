"""docs/web-configuration.md names every key of the format."""

import re
from pathlib import Path

from pydantic import BaseModel

from nextmv_exporter.web.toolkit.config import (
    HTTPServerConfig,
    RateLimitConfig,
    TLSServerConfig,
    WebConfig,
)

DOCS = Path(__file__).parents[3] / "docs" / "web-configuration.md"
SECTIONS: dict[str, type[BaseModel]] = {
    "tls_server_config": TLSServerConfig,
    "http_server_config": HTTPServerConfig,
    "rate_limit": RateLimitConfig,
}


def test_the_table_has_every_key_of_the_format() -> None:
    keys = set(WebConfig.model_fields)
    for section, model in SECTIONS.items():
        keys |= {f"{section}.{key}" for key in model.model_fields}
    rows = re.findall(r"^\| `([\w.]+)` \| .+ \|$", DOCS.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(keys)
