"""Whether the files that a plan needs exist, and whether they agree.

``check`` leads through the rest: ``sources`` finds the data sets of a config,
``annotations`` reads their files, ``classes`` compares names and numbers, and
``loaders`` looks at what comes out of them.
"""
from .check import (data_problems, missing_data, missing_files,
                    student_data)
from .files import missing_checkpoints
from .loaders import batches_of
from .sources import inner_datasets

__all__ = ['batches_of', 'data_problems', 'inner_datasets',
           'missing_checkpoints', 'missing_data', 'missing_files',
           'student_data']
