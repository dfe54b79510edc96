"""Scrape the exporter once, as Prometheus would; `helm test` runs this.

Arguments: the exporter's base URL, the path of its metrics, and what a client needs to read them:
`open` (nothing), `password` or `certificate`. Exit status 0 when every account is up, or when the
metrics are refused because what they need is missing.
"""

import ssl
import sys
import time
import urllib.error
import urllib.request

base, path, access = sys.argv[1:]

# Prometheus verifies the certificate; this only asks whether the exporter responds.
unverified = ssl.create_default_context()
unverified.check_hostname = False
unverified.verify_mode = ssl.CERT_NONE


def refused_certificate(error: object) -> bool:
    """Return whether a connection was closed because a certificate is missing."""
    if isinstance(error, urllib.error.URLError):
        error = error.reason
    alert = isinstance(error, ssl.SSLError) and "alert" in str(error) and "cert" in str(error)
    return alert or isinstance(error, ssl.SSLEOFError | ConnectionResetError)


def get(path: str) -> tuple[int, str]:
    """Return the status and text at a path; retry a failed connection for half a minute."""
    give_up = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(base + path, timeout=20, context=unverified) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.reason
        except OSError as error:
            if access == "certificate" and refused_certificate(error):
                print(f"{base} accepts connections, and asks for a client certificate")
                sys.exit()
            if time.monotonic() > give_up:
                sys.exit(f"{base}{path}: {error}")
            time.sleep(1)


status, text = get("/-/ready")
if access == "certificate":
    sys.exit(f"{base} does not ask for a client certificate")
if status != 200:
    sys.exit(f"{base}/-/ready: status {status}, expected 200: {text}")

status, text = get(path)
expected = 401 if access == "password" else 200
if status != expected:
    sys.exit(f"{base}{path}: status {status}, expected {expected}: {text}")
if access == "password":
    print(f"{base}{path} responds, and asks for a password")
    sys.exit()

accounts = [line for line in text.splitlines() if line.startswith("nextmv_up{")]
print(*accounts, sep="\n")
if not accounts:
    sys.exit("no account is monitored: the metrics have no nextmv_up")
if any(float(line.rpartition(" ")[2]) != 1 for line in accounts):
    sys.exit("an account cannot be read: see the exporter's log")
