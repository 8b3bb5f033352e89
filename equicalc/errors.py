"""Every error that equicalc raises on purpose; the text says what to do about it."""


class EquicalcError(Exception):
    """Base of all errors of this package."""


class ModelFileError(EquicalcError):
    """A model file cannot be used: missing, not a model, damaged, or from a newer version."""


class UnsupportedElementError(EquicalcError, ValueError):
    """A structure holds an element that the model was not trained for."""


class ConfigError(EquicalcError, ValueError):
    """A setting has an unknown name, a wrong type or an impossible value."""


class DataError(EquicalcError, ValueError):
    """A structure or a data set cannot be used: missing labels, bad positions, nothing in it."""


class InterruptedRunError(EquicalcError):
    """The user or the system stopped a run that can go on; the text says how."""


class SelfCheckError(EquicalcError):
    """This machine does not reproduce the reference numbers stored in a model file."""


class NotConvergedError(EquicalcError):
    """A relaxation stopped at its step limit."""


class ExplosionError(EquicalcError):
    """A relaxation or a run left the physical range (not finite, or absurdly hot)."""
