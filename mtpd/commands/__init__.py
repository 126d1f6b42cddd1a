"""What the tools do once their arguments are read, a module for each.

A tool imports its module last: ``--help``, a mistyped flag and a file that is
not there need no package. Tools of a few lines import what they call.
"""
