"""Determine the monitored accounts from the settings."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from nextmv_exporter.files import Reloaded, Watch, stamp
from nextmv_exporter.logs import get_logger
from nextmv_exporter.nextmv import credentials
from nextmv_exporter.nextmv.client import Client
from nextmv_exporter.nextmv.credentials import ALL_PROFILES, DEFAULT_PROFILE, Credentials
from nextmv_exporter.nextmv.errors import (
    ConfigurationError,
    InvalidNameError,
    UnknownProfileError,
    UnreadableFileError,
)
from nextmv_exporter.scrape.target import ScrapeOptions, Target
from nextmv_exporter.settings import Settings

log = get_logger()


class _Found(NamedTuple):
    """The accounts that settings and files specify."""

    credentials: Mapping[str, Credentials]
    """By account."""
    faults: Mapping[str, str]
    """By profile: its account is missing in `credentials`, or keeps its previous credentials."""


class Accounts:
    """The accounts that the settings select, a target each.

    Args:
        settings: the settings.
        given: credentials by account name, used instead of those that the settings select.

    Raises:
        ConfigurationError: an account has no valid credentials.
    """

    def __init__(self, settings: Settings, given: Mapping[str, Credentials] | None = None) -> None:
        self.targets: Mapping[str, Target] = {}
        self._settings = settings
        self._given = given
        self._drop_missing = False
        default = credentials.default_config_file()
        # If it existed at start, its absence is a failure: the default endpoint is not used.
        self._config_file = settings.nextmv_config_file or (default if stamp(default) else None)
        self._found = _Found({}, {})
        self._latest = Reloaded(self._find, self._update, "Reload failed, keeping current accounts")
        self._update(self._found, self._latest())

    def refresh(self) -> None:
        """Reload changed files: new keys, and profiles that were added or removed under `*`."""
        self._latest()

    @property
    def outdated(self) -> bool:
        """Whether `refresh` has to reload, which takes a second for a thousand accounts."""
        return self._latest.outdated

    def reload(self) -> None:
        """Reload all accounts; drop named profiles that are no longer in the file.

        Scrapes in progress of a dropped account still finish, since they hold its target.
        """
        self._drop_missing = True
        self._latest.reload()
        self._drop_missing = False

    def _find(self, last: _Found | None, watch: Watch) -> _Found:
        """Find the credentials of each account, so that an invalid one affects no other."""
        if self._given:
            return _Found(self._given, {})
        settings = self._settings
        watch(self._config_file or credentials.default_config_file())
        if settings.nextmv_api_key_file:
            watch(settings.nextmv_api_key_file)
        known = last.credentials if last else {}
        found: dict[str, Credentials] = {}
        faults: dict[str, str] = {}
        for profile in self._profiles():
            account = self._account(profile)
            try:
                found[account] = self._resolve(profile, taken=account in found)
            except UnreadableFileError:
                raise
            except ConfigurationError as error:
                if last is None and not isinstance(error, InvalidNameError):
                    raise
                faults[profile] = str(error)
                dropped = self._drop_missing and isinstance(error, UnknownProfileError)
                if account in known and not dropped:
                    found.setdefault(account, known[account])
        if not found:
            raise ConfigurationError(next(iter(faults.values())))
        return _Found(found, faults)

    def _update(self, old: _Found, new: _Found) -> None:
        for profile, error in new.faults.items():
            account = self._account(profile)
            if error == old.faults.get(profile):
                continue
            if account in old.credentials and account in new.credentials:
                log.warning(
                    "Reload failed, keeping current credentials", account=account, err=error
                )
            else:
                log.warning("Skipping account with invalid configuration", err=error)
        added = [account for account in new.credentials if account not in old.credentials]
        removed = [account for account in old.credentials if account not in new.credentials]
        if self.targets and (added or removed):
            log.info("Accounts reloaded", added=",".join(added), removed=",".join(removed))
        for account, previous in old.credentials.items():
            if new.credentials.get(account, previous) != previous:
                log.info("Credentials reloaded", account=account)
        in_clear = [a for a, found in new.credentials.items() if found.sent_in_clear]
        if in_clear and new.credentials != old.credentials:
            log.warning("API key is sent unencrypted: use https", accounts=",".join(in_clear))
        self._found = new
        self.targets = {
            account: self.targets.get(account) or self._target(account)
            for account in new.credentials
        }

    def _profiles(self) -> Sequence[str]:
        asked = [credentials.profile_name(p) for p in self._settings.nextmv_profile if p]
        profiles = list(dict.fromkeys(asked)) or [DEFAULT_PROFILE]
        if len(profiles) == 1 and profiles != [ALL_PROFILES]:
            return profiles
        self._reject_one_key_for_all()
        config = credentials.load_config(self._config_file)
        if ALL_PROFILES not in profiles:
            return profiles
        found = credentials.profiles_with_key(config)
        if not found:
            path = self._config_file or credentials.default_config_file()
            raise ConfigurationError(
                f"no profile in {path} has an API key: add one with `nextmv configuration create`"
            )
        return found

    def _account(self, profile: str) -> str:
        return self._settings.nextmv_account_name if profile == DEFAULT_PROFILE else profile

    def _reject_one_key_for_all(self) -> None:
        given = {
            "--nextmv.api-key-file": self._settings.nextmv_api_key_file,
            "NEXTMV_API_KEY": os.environ.get("NEXTMV_API_KEY"),
        }
        for name in filter(given.get, given):
            raise ConfigurationError(
                f"{name} holds one key, which would be used for all of several profiles: "
                "unset it, or choose one profile"
            )

    def _target(self, name: str) -> Target:
        settings = self._settings
        client = Client(
            credentials=self._credentials(name),
            max_response_bytes=settings.nextmv_max_response_bytes,
        )
        options = ScrapeOptions(
            timeout=settings.nextmv_timeout,
            source=settings.nextmv_source,
            run_lookback=settings.nextmv_run_lookback,
            wait_buckets=settings.queue_wait_buckets,
            max_groups=settings.queue_max_groups,
            zero_retention=settings.queue_zero_retention,
        )
        return Target(name, client, options)

    def _credentials(self, account: str) -> Callable[[], Credentials]:
        """Return a function that returns the current credentials of an account."""
        last = self._found.credentials[account]

        def latest() -> Credentials:
            nonlocal last  # used by a fetch in progress when its account is removed
            last = self._latest().credentials.get(account, last)
            return last

        return latest

    def _resolve(self, profile: str, *, taken: bool) -> Credentials:
        if taken:
            raise ConfigurationError(
                f"profile {profile!r} has the name that --nextmv.account-name gives to the "
                "default profile: choose another"
            )
        key_file = self._settings.nextmv_api_key_file
        return credentials.resolve(
            profile,
            api_key=credentials.read_api_key_file(key_file) if key_file else None,
            url=self._settings.nextmv_endpoint,
            config_file=self._config_file,
        )
