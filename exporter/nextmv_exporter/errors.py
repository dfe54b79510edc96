"""Errors that several layers raise."""


class ConfigurationError(ValueError):
    """A setting, variable or file is invalid. The message says which, why, and what to do.

    Args:
        message: one line without secrets and without names of command line flags.
        setting: the setting concerned, such as `config_file`, from which a command line tells
            the flag to change; empty if the message names everything there is to change.
    """

    def __init__(self, message: str, setting: str = "") -> None:
        super().__init__(message)
        self.setting = setting


class UnreadableFileError(ConfigurationError):
    """A file can't be read now. Reading it again may succeed although it has not changed."""
