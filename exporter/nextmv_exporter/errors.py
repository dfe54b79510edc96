"""Errors that several layers raise."""


class ConfigurationError(ValueError):
    """A setting, variable or file is invalid. The message names it, the cause and the fix.

    Args:
        message: one line that names no command line flag and contains no secret.
        setting: the setting to change, such as `config-file`, where the message does not name it;
            a command line adds its flag.
    """

    def __init__(self, message: str, setting: str = "") -> None:
        super().__init__(message)
        self.setting = setting


class UnreadableFileError(ConfigurationError):
    """A file can't be read now. Reading it again may succeed although it has not changed."""
