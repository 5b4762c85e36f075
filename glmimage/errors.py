"""The one tree of errors.

A `GLMImageError` is what a person, a file or a machine did; its message is one sentence that says what is wrong, with
which value, and what to do about it. Our own bugs are `assert`s.
"""


class GLMImageError(Exception):
    """The root: everything a caller may show to a person without a traceback."""


class RequestError(GLMImageError):
    """What was asked for cannot be done."""


class PictureError(GLMImageError):
    """A reference picture cannot be read or used."""


class CheckpointError(GLMImageError):
    """A checkpoint is missing, incomplete or of another kind."""


class HubUnreachable(CheckpointError):
    """The hub does not answer; what is here already may do."""


class GlyphError(GLMImageError):
    """The quoted strings of a prompt are more than the glyph encoder takes."""


class MachineError(GLMImageError):
    """This machine cannot do what was asked: its memory is too small, or it lacks the device."""


class TrainingError(GLMImageError):
    """A training run cannot start or go on."""


def reason(error: Exception) -> str:
    """What a library says, in the line that fits into a sentence of ours; its kind where it says nothing."""
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class Stopped(GLMImageError):
    """The stop flag was set; carries nothing."""

    def __init__(self) -> None:
        super().__init__("Stopped as asked; generate again to start over.")
