"""What is measured.

    job           something to be measured once, with its line of results
    students      teachers, students after some stages, costs, explanations
    limits        a student with some of the labels, tested on both splits
    slices        a student that is cut to a share of its width
    training      what jobs share: configs, training, what is recorded of it
    similarity    kernel alignment of two detectors' maps
    queue         runs jobs, several processes at a time
"""
