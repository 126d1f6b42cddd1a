"""What would stop a progression after its start, found before it.

``mechanism`` looks at ``mtpd.distill``, ``training`` at what a stage needs,
``checkpoints`` at what it keeps, ``optimizer`` at its optimizer,
``unread`` at what has no effect, ``notes`` at what would stop nothing.
"""
from .mechanism import mechanism_problems
from .notes import frozen_notes, plan_notes, schedule_notes
from .training import amp_problems, missing_weights, training_problems
from .unread import unread_options

__all__ = ['amp_problems', 'frozen_notes', 'mechanism_problems',
           'missing_weights', 'plan_notes', 'schedule_notes',
           'training_problems', 'unread_options']
