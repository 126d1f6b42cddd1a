"""Everything behind ``python benchmarks/evidence.py``.

    design        what is compared: data sets, lengths of stages, mechanisms
    job           something to be measured once, with its line of results
    jobs          the kinds of jobs: teachers, students, costs, explanations
    slices        jobs of a student that is cut to a share of its width
    training      what jobs share: configs, training, what is recorded of it
    similarity    kernel alignment of two detectors' maps
    comparisons   which jobs each comparison is made of
    queue         runs jobs, several processes at a time
    store         reads and appends the results, DATASET.jsonl in this folder
    results       all results of one data set, by arm and sequence
    statistics    intervals, tests and correlations
    predictors    what might tell how much a teacher helps
    report        docs/results.md and its plots
"""
