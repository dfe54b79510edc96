"""Errors that several layers raise."""


class ConfigurationError(ValueError):
    """A setting, variable or file is invalid. The message says which, why, and what to do."""
