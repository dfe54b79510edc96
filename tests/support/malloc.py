"""The settings of glibc's allocator in the container image."""

import re
from pathlib import Path

DOCKERFILE = Path(__file__).parents[2] / "Dockerfile"

IMAGE_MALLOC = dict(re.findall(r'(MALLOC_\w+)="(\d+)"', DOCKERFILE.read_text()))
"""Environment variables: one heap for all threads, and large blocks returned when freed."""
