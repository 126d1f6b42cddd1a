"""docs/results.md and its plots, from the results alone.

Everything here is a function of the results: a test writes the page anew and
compares.
"""
