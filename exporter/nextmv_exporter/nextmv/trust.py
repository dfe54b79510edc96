"""Certificate authorities trusted for the API's certificate: those of the system.

`requests` alone would use certifi's, which do not include an organisation's own authority.
"""

import os
import ssl
from functools import cache
from pathlib import Path

from nextmv_exporter.nextmv.errors import ConfigurationError

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS, BSD
)
"""Where systems keep their authorities, for a Python that was built to look elsewhere."""


_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def tls_context() -> ssl.SSLContext:
    """Return the context that verifies the API's certificate, shared by all clients.

    `REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE`, a file or a folder, replaces the system's store;
    `SSL_CERT_FILE` and `SSL_CERT_DIR` set its path, as for every program that uses OpenSSL.

    Returns:
        The context. It is not truststore's, which holds a lock during a handshake: a peer that
        stalls in one would delay other connections past their deadlines.

    Raises:
        ConfigurationError: a variable names a file that can't be read or has no certificates.
    """
    variable = next((name for name in _VARIABLES if os.environ.get(name)), "")
    return _context(variable, os.environ.get(variable, ""), os.environ.get("SSL_CERT_DIR"))


@cache
def _context(variable: str, path: str, _folder: str | None) -> ssl.SSLContext:
    try:
        if variable.endswith("BUNDLE"):
            if Path(path).is_dir():
                return ssl.create_default_context(capath=path)
            return ssl.create_default_context(cafile=path)
        context = ssl.create_default_context()
        if path:  # OpenSSL itself ignores a file that it can't read
            context.load_verify_locations(path)
    except ssl.SSLError:
        raise ConfigurationError(f"{variable}: {path} has no certificates in PEM format") from None
    except OSError as error:
        raise ConfigurationError(f"{variable}: {path} can't be read: {error.strerror}") from None
    bundle = next((bundle for bundle in _BUNDLES if Path(bundle).is_file()), None)
    if bundle and not context.get_ca_certs():
        context.load_verify_locations(bundle)
    return context
