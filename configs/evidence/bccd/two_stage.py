"""A teacher of the evidence: the two-stage one of BCCD, as it is."""
_base_ = '../../bccd/two_stage.py'
