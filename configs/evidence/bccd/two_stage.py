"""A teacher of the evidence: BCCD's two-stage teacher, unchanged."""
_base_ = '../../bccd/two_stage.py'
