"""Errors that a user can cause or fix; the command line maps each to an exit status.

Every message is complete by itself: it names the file, key or option, the invalid value, and what would be valid.
Any other exception is an internal error and shows its traceback.
"""


class TscncError(Exception):
    """Base class of all errors with a message for the user."""

    exit_status = 2


class InputError(TscncError):
    """An argument, a file or a folder is invalid (exit status 2)."""


class RecipeError(InputError):
    """A recipe or a target cannot be read, or asks for something impossible."""


class DataError(InputError):
    """A data set is missing, empty, damaged or in the wrong format."""


class MissingDataError(DataError):
    """A data set is missing, and downloading it was not allowed."""


class EngineInputError(InputError):
    """Images given to a model or an engine have the wrong shape, type or values."""


class BundleError(InputError):
    """A bundle is damaged or malicious, or has a schema that this version does not support."""


class StorageError(InputError):
    """The output folder cannot be written, is in use by another build, or has no space left."""


class UnavailableError(TscncError):
    """Hardware or an optional package is missing (exit status 3); the message says what installs it."""

    exit_status = 3


class GateFailedError(TscncError):
    """A gate failed (exit status 1)."""

    exit_status = 1


class InconclusiveError(TscncError):
    """An interval contains its limit (exit status 4); the message says how many images would decide it."""

    exit_status = 4


class NotCheckedError(TscncError):
    """A gate of the recipe could not be checked (exit status 5); the message names it."""

    exit_status = 5
