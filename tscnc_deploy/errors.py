"""The errors that a user can cause or fix; the command line maps each to an exit status.

Every message is complete on its own: it names the file, the key or the option, the offending value, and what
would be right. Anything else that is raised is an internal error and shows its traceback.
"""


class TscncError(Exception):
    """Base of all errors with a message meant for the user."""

    exit_status = 2


class InputError(TscncError):
    """An argument, a file or a folder is not what it should be (exit status 2)."""


class RecipeError(InputError):
    """A recipe or a target cannot be read, or asks for something impossible."""


class DataError(InputError):
    """A data set is missing, empty, damaged or of the wrong form."""


class MissingDataError(DataError):
    """A data set is not there, and downloading it was not allowed."""


class EngineInputError(InputError):
    """Images given to a model or an engine have the wrong shape, type or values."""


class BundleError(InputError):
    """A bundle is damaged, hostile, or of a schema that this version does not know."""


class StorageError(InputError):
    """The place for the output cannot be written, is in use by another build, or has no space left."""


class UnavailableError(TscncError):
    """Hardware or an optional package is missing (exit status 3); the message says what installs it."""

    exit_status = 3


class GateFailedError(TscncError):
    """A gate failed (exit status 1)."""

    exit_status = 1


class InconclusiveError(TscncError):
    """An interval straddles its limit (exit status 4); the message says how many images would settle it."""

    exit_status = 4
