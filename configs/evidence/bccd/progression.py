# The evidence on BCCD: the student and the pool of benchmarks/evidence.py.
#   python benchmarks/evidence.py --budget small
# Teachers see images at 320x240, the student at half of it.
_base_ = './student.py'
custom_imports = dict(imports=['mtpd'])
work_dir = 'work_dirs/evidence/bccd'
pool = 'work_dirs/evidence/bccd/pool/'
here = 'configs/evidence/bccd/'
mtpd = dict(
    student=dict(checkpoint=pool + 'student.pth'),
    teachers=dict(
        resnext=dict(config=here + 'resnext.py', scale=2,
                     checkpoint=pool + 'resnext.pth'),
        swin=dict(config=here + 'swin.py', scale=2,
                  checkpoint=pool + 'swin.pth'),
        two_stage=dict(config=here + 'two_stage.py', scale=2,
                       checkpoint=pool + 'two_stage.pth'),
        deformable=dict(config=here + 'deformable.py', scale=2,
                        checkpoint=pool + 'deformable.pth')),
    order='bgs',
    adapter='auto',  # none: the channels are equal, also with a share
    distill=dict(
        type='FeatureL2Loss', loss_weight=0.3,  # by the pilot
        normalise=True))
