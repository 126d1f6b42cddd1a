"""One stage: an mmengine run that can stop at any moment."""
from . import loops, time_left, validations

__all__ = ['loops', 'time_left', 'validations']  # which registers them
