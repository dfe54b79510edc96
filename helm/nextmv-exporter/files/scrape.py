"""Scrape the exporter once, as Prometheus would; `helm test` runs this.

Arguments: the exporter's base URL, the path of its metrics, and what their readers need: `nothing`,
a `password` or a `certificate`. Exit status 0 if every account is up. If readers need something,
the exporter only has to ask for it.
"""

import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

base, path, needed = sys.argv[1:]
# Prometheus verifies the certificate; this only asks whether the exporter responds.
unverified = ssl.create_default_context()
unverified.check_hostname = False
unverified.verify_mode = ssl.CERT_NONE


def get() -> tuple[int, str]:
    """Return the status and the text of the metrics."""
    try:
        with urllib.request.urlopen(base + path, timeout=20, context=unverified) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.reason


def connect() -> tuple[int, str]:
    """Only connect: more needs a certificate, which the test has not."""
    socket.create_connection((urlsplit(base).hostname, urlsplit(base).port), timeout=20).close()
    return 0, ""


give_up = time.monotonic() + 30
while True:
    try:
        status, text = connect() if needed == "certificate" else get()
        break
    except OSError as error:
        if time.monotonic() > give_up:
            sys.exit(f"{base}{path}: {error}")
        time.sleep(1)

expected = {"nothing": 200, "password": 401, "certificate": 0}[needed]
if status != expected:
    sys.exit(f"{base}{path}: status {status}, expected {expected}: {text}")
if needed == "nothing":
    accounts = [line for line in text.splitlines() if line.startswith("nextmv_up{")]
    print(*accounts, sep="\n")
    if not accounts or any(float(line.rpartition(" ")[2]) != 1 for line in accounts):
        sys.exit("an account cannot be read: see the exporter's log")
else:
    print(f"{base} responds; to read the metrics needs a {needed}")
