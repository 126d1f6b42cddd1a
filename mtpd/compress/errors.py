"""The error that lists why a detector cannot be made smaller."""
from mtpd.plan.errors import PlanError


class CannotSlice(PlanError):
    """Why no smaller detector can be made; nothing was written."""

    heading = 'The detector cannot be made smaller'


class WidthUnavailable(CannotSlice):
    """No detector has this width, or none with the same connections; another
    width may do."""
