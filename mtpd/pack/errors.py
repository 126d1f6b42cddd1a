"""Why a checkpoint cannot be packed or unpacked."""
from mtpd.plan.errors import PlanError


class CannotPack(PlanError):
    """Why a checkpoint cannot be packed; nothing was written."""

    heading = 'The checkpoint cannot be packed'


class CannotUnpack(CannotPack):
    """Why a compressed file cannot be unpacked; nothing was written."""

    heading = 'The file cannot be unpacked'
