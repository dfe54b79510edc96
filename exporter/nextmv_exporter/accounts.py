"""From settings to the accounts that are monitored."""

import os
from collections.abc import Mapping, Sequence
from functools import partial

import structlog

from nextmv_exporter.errors import ConfigurationError
from nextmv_exporter.files import stamp
from nextmv_exporter.nextmv import credentials
from nextmv_exporter.nextmv.client import Client
from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.nextmv.errors import UnknownProfileError
from nextmv_exporter.nextmv.rotation import RotatingCredentials
from nextmv_exporter.scrape.metrics import AccountMetrics
from nextmv_exporter.scrape.sources import AccountQueue, ApplicationRuns, Auto, Source
from nextmv_exporter.scrape.target import ScrapeOptions, Target
from nextmv_exporter.settings import Settings

ALL_PROFILES = "*"

log = structlog.get_logger()


class Accounts:
    """The accounts that the settings ask for, a target each.

    Args:
        settings: the settings.
        given: the credentials of accounts that need none found, by name.

    Raises:
        ConfigurationError: an account has no usable credentials.
    """

    def __init__(self, settings: Settings, given: Mapping[str, Credentials] | None = None) -> None:
        self._settings = settings
        self._given = given or {}
        self._config_file = settings.nextmv_config_file or credentials.default_config_file()
        self._stamp = stamp([self._config_file])
        self.targets: Mapping[str, Target] = {name: self._target(name) for name in self._names()}

    def refresh(self) -> None:
        """Take up profiles that came or went, where all of the file's are monitored."""
        if ALL_PROFILES in self._settings.nextmv_profile:
            latest = stamp([self._config_file])
            if latest != self._stamp:
                self.reload()

    def reload(self) -> None:
        """Take up profiles that came or went; keep what there is if the file is unusable.

        Scrapes under way of an account that went are finished, by those who hold its target.
        """
        self._stamp = stamp([self._config_file])
        try:
            targets = self._targets_now()
        except ConfigurationError as error:
            log.warning("Kept the accounts as they were", err=str(error))
            return
        gone = self.targets.keys() - targets.keys()
        if gone or targets.keys() - self.targets.keys():
            log.info("Took up changed profiles", accounts=",".join(targets))
        self.targets = targets

    def _targets_now(self) -> Mapping[str, Target]:
        """Go through the profiles one by one, so that a broken one costs the others nothing."""
        targets: dict[str, Target] = {}
        left_out: list[ConfigurationError] = []
        for name in self._names():
            known = self.targets.get(name)
            try:
                self._find(name)
                targets[name] = known or self._target(name)
            except ConfigurationError as error:
                if known and not isinstance(error, UnknownProfileError):
                    targets[name] = known  # goes on with its last good key
                else:
                    left_out.append(error)
        if not targets:
            raise left_out[0]
        for reason in left_out:
            log.warning("Left an account out", err=str(reason))
        return targets

    def _names(self) -> Sequence[str]:
        if self._given:
            return list(self._given)
        asked = [credentials.profile_name(p) for p in self._settings.nextmv_profile if p]
        names = list(dict.fromkeys(asked)) or [credentials.DEFAULT_PROFILE]
        if len(names) == 1 and names != [ALL_PROFILES]:
            return names
        self._refuse_one_key_for_all()
        if ALL_PROFILES not in names:
            return names
        config = credentials.load_config(self._settings.nextmv_config_file)
        found = credentials.profiles_with_key(config)
        if not found:
            raise ConfigurationError(
                f"no profile in {self._config_file} has an API key: add one with "
                "`nextmv configuration create`"
            )
        return found

    def _refuse_one_key_for_all(self) -> None:
        if self._settings.nextmv_api_key_file:
            raise ConfigurationError(
                "--nextmv.api-key-file holds one key, but several profiles are asked for: "
                "drop the file, or ask for one profile"
            )
        if os.environ.get("NEXTMV_API_KEY"):
            raise ConfigurationError(
                "NEXTMV_API_KEY holds one key and goes before those of the profiles, but several "
                "profiles are asked for: unset it, or ask for one profile"
            )

    def _target(self, name: str) -> Target:
        settings = self._settings
        metrics = AccountMetrics(
            name,
            wait_buckets=settings.queue_wait_buckets,
            max_groups=settings.queue_max_groups,
        )
        client = Client(
            credentials=self._credentials(name),
            timeout=settings.nextmv_timeout,
            max_response_bytes=settings.nextmv_max_response_bytes,
            on_request=metrics.observe_request,
        )
        options = ScrapeOptions(
            timeout=settings.nextmv_timeout,
            wait_buckets=settings.queue_wait_buckets,
            max_groups=settings.queue_max_groups,
            zero_retention=settings.queue_zero_retention,
        )
        return Target(name, self._source(name, client), options, metrics)

    def _source(self, name: str, client: Client) -> Source:
        queue = AccountQueue(client)
        runs = ApplicationRuns(client, self._settings.nextmv_run_lookback)
        choices: dict[str, Source] = {
            queue.name: queue,
            runs.name: runs,
            "auto": Auto(name, queue, runs),
        }
        return choices[self._settings.nextmv_source]

    def _credentials(self, name: str) -> RotatingCredentials:
        key_file = self._settings.nextmv_api_key_file
        files = [self._config_file] if key_file is None else [self._config_file, key_file]
        return RotatingCredentials(name, partial(self._find, name), files)

    def _find(self, name: str) -> Credentials:
        if name in self._given:
            return self._given[name]
        key_file = self._settings.nextmv_api_key_file
        return credentials.resolve(
            name,
            api_key=credentials.read_api_key_file(key_file) if key_file else None,
            url=self._settings.nextmv_endpoint,
            config_file=self._settings.nextmv_config_file,
        )
