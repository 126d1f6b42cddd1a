# Progressive distillation on BCCD, with all detectors from random weights:
#   python tools/from_scratch.py configs/bccd/progression.py (`make bccd`)
# Data: see dataset.py. Results of several seeds: docs/results.md.
_base_ = './student.py'
custom_imports = dict(imports=['mtpd'])
work_dir = 'work_dirs/bccd'
pool = 'work_dirs/bccd/pool/'
mtpd = dict(
    student=dict(checkpoint=pool + 'student.pth'),
    teachers=dict(
        resnext=dict(config='configs/bccd/resnext.py',
                     checkpoint=pool + 'resnext.pth'),
        swin=dict(config='configs/bccd/swin.py',
                  checkpoint=pool + 'swin.pth'),
        two_stage=dict(config='configs/bccd/two_stage.py',
                       checkpoint=pool + 'two_stage.pth')),
    order='bgs', max_teachers=2,
    distill=dict(type='FeatureL2Loss', loss_weight=0.5, normalise=True))
