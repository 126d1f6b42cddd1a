# The evidence on drawn shapes: the student and the pool of
# benchmarks/evidence.py.
#   python benchmarks/evidence.py --dataset drawn
_base_ = './student.py'
custom_imports = dict(imports=['mtpd'])
work_dir = 'work_dirs/evidence/drawn'
pool = 'work_dirs/evidence/drawn/pool/'
here = 'configs/evidence/drawn/'
mtpd = dict(
    student=dict(checkpoint=pool + 'student.pth'),
    teachers=dict(
        resnext=dict(config=here + 'resnext.py',
                     checkpoint=pool + 'resnext.pth'),
        swin=dict(config=here + 'swin.py', checkpoint=pool + 'swin.pth'),
        two_stage=dict(config=here + 'two_stage.py',
                       checkpoint=pool + 'two_stage.pth'),
        deformable=dict(config=here + 'deformable.py',
                        checkpoint=pool + 'deformable.pth')),
    order='bgs',
    distill=dict(
        type='FeatureL2Loss', loss_weight=0.3,  # by the pilot
        normalise=True))
