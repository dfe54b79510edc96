"""Determine the monitored accounts from the settings."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nextmv_exporter.files import Reloaded, Watch, stamp
from nextmv_exporter.logs import get_logger
from nextmv_exporter.nextmv import credentials, errors
from nextmv_exporter.nextmv.client import Client
from nextmv_exporter.nextmv.credentials import ALL_PROFILES, DEFAULT_PROFILE, Credentials
from nextmv_exporter.nextmv.errors import ConfigurationError
from nextmv_exporter.scrape.target import ScrapeOptions, Target
from nextmv_exporter.settings import Settings

log = get_logger()

Found = Mapping[str, Credentials]
"""Credentials by account."""


def profiles(settings: Settings) -> Sequence[str]:
    """List the profiles that the settings select, one account each.

    Args:
        settings: the settings.

    Returns:
        Names of profiles; for a bare key that of the default profile.

    Raises:
        ConfigurationError: no profile has a key, or one key is given for several profiles.
    """
    asked = [credentials.profile_name(each) for each in settings.nextmv_profile if each]
    chosen = list(dict.fromkeys(asked)) or [DEFAULT_PROFILE]
    if len(chosen) == 1 and chosen != [ALL_PROFILES]:
        return chosen
    if settings.nextmv_api_key_file or os.environ.get("NEXTMV_API_KEY"):
        raise ConfigurationError(
            "NEXTMV_API_KEY or --nextmv.api-key-file holds one key, which would be used for all "
            "of several profiles: unset it, or choose one profile"
        )
    config = credentials.load_config(settings.nextmv_config_file)
    if ALL_PROFILES in chosen:
        chosen = credentials.profiles_with_key(config)
    if not chosen:
        raise ConfigurationError(
            "--nextmv.profile is *, but no profile in the configuration file has an API key: add "
            "one with `nextmv configuration create`"
        )
    if len({account_name(settings, each) for each in chosen}) < len(chosen):
        raise ConfigurationError(
            "--nextmv.account-name gives the default profile the name of another: choose another"
        )
    return chosen


def account_name(settings: Settings, profile: str) -> str:
    """Return the value of the `account` label for a profile."""
    named = settings.nextmv_account_name or DEFAULT_PROFILE
    return named if profile == DEFAULT_PROFILE else profile


def resolve(settings: Settings, profile: str) -> Credentials:
    """Find the credentials of a profile that the settings select.

    Args:
        settings: the settings.
        profile: one of `profiles`.

    Returns:
        The credentials.

    Raises:
        ConfigurationError: they are missing or invalid.
    """
    key_file = settings.nextmv_api_key_file
    return credentials.resolve(
        profile,
        api_key=credentials.read_api_key_file(key_file) if key_file else None,
        url=settings.nextmv_endpoint,
        config_file=settings.nextmv_config_file,
    )


class Accounts:
    """The accounts that the settings select, a target each.

    Args:
        settings: the settings.
        given: credentials by account name, used instead of those that the settings select.

    Raises:
        ConfigurationError: an account has no valid credentials.
    """

    def __init__(self, settings: Settings, given: Found | None = None) -> None:
        self.targets: Mapping[str, Target] = {}
        default = credentials.default_config_file()
        if settings.nextmv_config_file is None and stamp(default):
            # It existed at start, so its absence is a failure: the default endpoint is not used.
            settings = replace(settings, nextmv_config_file=default)
        self._settings = settings
        self._given = given
        self._drop_missing = False
        self._faults: Mapping[str, str] = {}
        self._latest = Reloaded(self._find, self._update, "Reload failed, keeping current accounts")
        self._update({}, self._latest())

    def refresh(self) -> None:
        """Reload changed files: new keys, and profiles that were added or removed under `*`."""
        self._latest()

    def reload(self) -> None:
        """Reload all accounts; drop named profiles that are no longer in the file.

        Scrapes in progress of a dropped account still finish, since they hold its target.
        """
        self._drop_missing = True
        self._latest.reload()
        self._drop_missing = False

    def _find(self, last: Found | None, watch: Watch) -> Found:
        """Find the credentials of each account, so that an invalid one affects no other."""
        if self._given:
            return self._given
        watch(self._settings.nextmv_config_file or credentials.default_config_file())
        if key_file := self._settings.nextmv_api_key_file:
            watch(key_file)
        found: dict[str, Credentials] = {}
        faults: dict[str, str] = {}
        for profile in profiles(self._settings):
            account = account_name(self._settings, profile)
            try:
                found[account] = resolve(self._settings, profile)
            except errors.UnreadableFileError:
                raise
            except ConfigurationError as error:
                if last is None:
                    raise
                faults[account] = str(error)
                dropped = self._drop_missing and isinstance(error, errors.UnknownProfileError)
                if account in last and not dropped:
                    found[account] = last[account]
        if not found:
            raise ConfigurationError(next(iter(faults.values())))
        for account, fault in sorted(faults.items() - self._faults.items()):
            log.warning("Ignoring invalid credentials", account=account, err=fault)
        self._faults = faults
        return found

    def _update(self, old: Found, new: Found) -> None:
        added, removed = (",".join(sorted(each)) for each in (new.keys() - old, old.keys() - new))
        if old and (added or removed):
            log.info("Accounts reloaded", added=added, removed=removed)
        for account in old.keys() & new.keys():
            if old[account] != new[account]:
                log.info("Credentials reloaded", account=account)
        in_clear = ",".join(account for account, found in new.items() if found.sent_in_clear)
        if in_clear and new != old:
            log.warning("API key is sent unencrypted: use https", accounts=in_clear)
        self.targets = {
            account: self.targets.get(account) or self._target(account, found)
            for account, found in new.items()
        }

    def _target(self, name: str, found: Credentials) -> Target:
        settings = self._settings
        options = ScrapeOptions(
            timeout=settings.nextmv_timeout,
            source=settings.nextmv_source,
            run_lookback=settings.nextmv_run_lookback,
            wait_buckets=settings.queue_wait_buckets,
            max_groups=settings.queue_max_groups,
            zero_retention=settings.queue_zero_retention,
        )

        def latest() -> Credentials:
            nonlocal found  # used by a fetch in progress when its account is removed
            found = self._latest().get(name, found)
            return found

        limit = settings.nextmv_max_response_bytes
        return Target(name, Client(credentials=latest, max_response_bytes=limit), options)
