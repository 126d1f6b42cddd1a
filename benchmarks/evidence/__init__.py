"""Everything behind ``python benchmarks/evidence.py``.

    design        what is compared: data sets, lengths of stages, mechanisms
    jobs          what is measured, and the queue that runs it
    comparisons   which jobs each comparison is made of
    store         reads and appends the results, DATASET.jsonl in this folder
    results       all results of one data set, by arm and sequence
    statistics    intervals, tests and correlations
    predictors    what might tell how much a teacher helps
    report        docs/results.md and its plots
"""
