"""What `helm test` runs: scrapes the exporter once, as Prometheus would.

Arguments: the exporter's base URL, the path of its metrics, and `open` or `password`: whether the
metrics may be read without a password. Exit status 0 when every account is up.
"""

import ssl
import sys
import time
import urllib.error
import urllib.request

base, path, protection = sys.argv[1:]

# The certificate is made for Prometheus's eyes; this test asks whether the exporter answers at all.
unverified = ssl.create_default_context()
unverified.check_hostname = False
unverified.verify_mode = ssl.CERT_NONE


def get(path: str) -> tuple[int, str]:
    """The status and text at a path; a refused connection is tried again for half a minute."""
    give_up = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(base + path, timeout=20, context=unverified) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.reason
        except OSError as error:
            if time.monotonic() > give_up:
                sys.exit(f"{base}{path}: {error}")
            time.sleep(1)


status, text = get("/-/ready")
if status != 200:
    sys.exit(f"{base}/-/ready answered {status}, not 200: {text}")

status, text = get(path)
wanted = 401 if protection == "password" else 200
if status != wanted:
    sys.exit(f"{base}{path} answered {status}, not {wanted}: {text}")
if protection == "password":
    print(f"{base}{path} is there, and asks for a password")
    sys.exit()

accounts = [line for line in text.splitlines() if line.startswith("nextmv_up{")]
print(*accounts, sep="\n")
if not accounts:
    sys.exit("no account is monitored: there is no nextmv_up in the metrics")
if any(float(line.rpartition(" ")[2]) != 1 for line in accounts):
    sys.exit("an account can't be read: the exporter's log says why")
