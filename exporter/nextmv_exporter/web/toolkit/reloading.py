"""The web configuration, reloaded when its files change."""

import ssl
from pathlib import Path
from typing import NamedTuple

from nextmv_exporter.files import Reloaded, Watch
from nextmv_exporter.logs import get_logger
from nextmv_exporter.nextmv.errors import ConfigurationError
from nextmv_exporter.web.toolkit.config import WebConfig, load_web_config
from nextmv_exporter.web.toolkit.tls import server_context

log = get_logger()


class _Loaded(NamedTuple):
    config: WebConfig
    context: ssl.SSLContext | None


class ReloadingWebConfig:
    """The configuration in a web configuration file and the certificates that it names.

    An invalid configuration is rejected and the previous one stays active.

    Args:
        path: the file.

    Raises:
        ConfigurationError: the file, or a certificate that it names, is invalid.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loaded = Reloaded(
            self._load, self._log_reload, "Reload failed, keeping current web configuration"
        )
        self.tls = self._loaded().context is not None
        """Whether the server uses TLS; this does not change while it runs."""

    def config(self) -> WebConfig:
        """Return the latest valid configuration."""
        return self._loaded().config

    def context(self) -> ssl.SSLContext:
        """Return the latest valid TLS context.

        Raises:
            RuntimeError: the server does not use TLS.
        """
        context = self._loaded().context
        if context is None:
            raise RuntimeError("the server does not use TLS")
        return context

    def _load(self, last: _Loaded | None, watch: Watch) -> _Loaded:
        watch(self._path)
        config = load_web_config(self._path)
        try:
            tls = config.tls_server_config
            if tls:
                named = (tls.cert_file, tls.key_file, tls.client_ca_file)
                for file in filter(None, named):
                    watch(Path(file))
            loaded = _Loaded(config, server_context(tls) if tls else None)
            if last:
                _reject_less_protection(last, loaded)
        except ConfigurationError as error:
            raise type(error)(f"--web.config.file {self._path}: {error}") from None
        return loaded

    def _log_reload(self, _old: _Loaded, _new: _Loaded) -> None:
        log.info("Web configuration reloaded", file=str(self._path))


def _reject_less_protection(old: _Loaded, new: _Loaded) -> None:
    """Reject a file that weakens protection: it may be truncated while it is written."""
    was, now = old.config.tls_server_config, new.config.tls_server_config
    weaker: dict[str, object] = {
        "tls_server_config": bool(was) != bool(now),
        "basic_auth_users": old.config.basic_auth_users and not new.config.basic_auth_users,
    }
    if was and now:
        weaker |= {
            "tls_server_config.client_auth_type": now.verify_mode < was.verify_mode,
            "tls_server_config.client_ca_file": was.has_client_ca and not now.has_client_ca,
            "tls_server_config.cipher_suites": was.cipher_suites and not now.cipher_suites,
        }
    # The versions are those of the contexts, since they depend on the cipher suites too.
    if (before := old.context) and (after := new.context):
        weaker |= {
            "tls_server_config.min_version": after.minimum_version < before.minimum_version,
            "tls_server_config.max_version": after.maximum_version < before.maximum_version,
        }
    for key in (key for key, is_weaker in weaker.items() if is_weaker):
        raise ConfigurationError(f"{key} can't be added, removed or weakened without a restart")
