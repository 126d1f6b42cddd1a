"""What registries build from a config: is it known, and does it take what it
is given?"""
from .keywords import unknown_keywords, wrong_values
from .parts import part_problems, unlabelled_part_problems

__all__ = ['part_problems', 'unknown_keywords', 'unlabelled_part_problems',
           'wrong_values']
