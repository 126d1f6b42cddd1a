"""The error that lists why a checkpoint cannot be packed."""
from mtpd.plan.errors import PlanError


class CannotPack(PlanError):
    """Why a checkpoint cannot be packed or unpacked; nothing was written."""

    heading = 'The checkpoint cannot be packed'
