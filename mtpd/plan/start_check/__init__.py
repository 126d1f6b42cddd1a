"""What would stop a progression after its start, found before it.

``mechanism`` looks at ``mtpd.distill``, ``parts`` at everything in the
student's config that a registry builds, ``training`` at what a stage needs.
"""
from .mechanism import mechanism_problems
from .parts import part_problems
from .training import amp_problems, training_problems

__all__ = ['amp_problems', 'mechanism_problems', 'part_problems',
           'training_problems']
