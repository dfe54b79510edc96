"""The web configuration as it is now: its files are read again when they change."""

import ssl
from pathlib import Path

import structlog

from nextmv_exporter.errors import ConfigurationError
from nextmv_exporter.files import stamp
from nextmv_exporter.web.toolkit.config import WebConfig, load_web_config
from nextmv_exporter.web.toolkit.tls import server_context

log = structlog.get_logger()


class ReloadingWebConfig:
    """Follows a web configuration file and the certificates that it names.

    A change for the worse keeps what was, and is logged once.

    Args:
        path: the file.

    Raises:
        ConfigurationError: the file, or a certificate in it, is unusable to begin with.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = [path]
        self._config, self._context = self._load()

    @property
    def tls(self) -> bool:
        """Whether the server speaks TLS; that does not change while it runs."""
        return self._context is not None

    def config(self) -> WebConfig:
        """Give the latest good configuration."""
        self._refresh()
        return self._config

    def context(self) -> ssl.SSLContext:
        """Give the latest good TLS context; only where `tls`."""
        self._refresh()
        if self._context is None:
            raise RuntimeError("the server does not speak TLS")
        return self._context

    def _refresh(self) -> None:
        if stamp(self._files) == self._stamp:
            return
        try:
            config, context = self._load()
            self._refuse_another_protection(config)
        except ConfigurationError as error:
            log.warning("Kept the web configuration as it was", err=str(error))
            return
        self._config, self._context = config, context
        log.info("Took up a changed web configuration", file=str(self._path))

    def _load(self) -> tuple[WebConfig, ssl.SSLContext | None]:
        # Stamped before they are read, so that what is written meanwhile is seen the next time.
        self._stamp = stamp(self._files)
        config = load_web_config(self._path)
        tls = config.tls_server_config
        # What the file names is watched even if it's unusable: it may be mended in place.
        named = (tls.cert_file, tls.key_file, tls.client_ca_file) if tls else ()
        self._files = [self._path, *(Path(file) for file in named if file)]
        self._stamp = self._stamp[:1] + stamp(self._files[1:])
        try:
            return config, server_context(tls) if tls else None
        except ConfigurationError as error:
            raise ConfigurationError(f"--web.config.file {self._path}: {error}") from None

    def _refuse_another_protection(self, config: WebConfig) -> None:
        """A file cut short, as one is while it's written, must not open the door."""
        if bool(config.tls_server_config) != self.tls:
            what = "tls_server_config can't come or go"
        elif self._config.basic_auth_users and not config.basic_auth_users:
            what = "the last of basic_auth_users can't go"
        else:
            return
        raise ConfigurationError(f"--web.config.file {self._path}: {what} without a restart")
