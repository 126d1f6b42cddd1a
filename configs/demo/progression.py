# The order that is found on drawn shapes:
#   python tools/draw_shapes.py configs/demo/dataset.py
#   python tools/from_scratch.py configs/demo/progression.py
_base_ = './student.py'
custom_imports = dict(imports=['mtpd'])
work_dir = 'work_dirs/demo'
randomness = dict(seed=0)
mtpd = dict(
    student=dict(checkpoint='work_dirs/demo/pool/student.pth'),
    teachers=dict(
        resnext=dict(config='configs/demo/resnext.py',
                     checkpoint='work_dirs/demo/pool/resnext.pth'),
        swin=dict(config='configs/demo/swin.py',
                  checkpoint='work_dirs/demo/pool/swin.pth'),
        two_stage=dict(config='configs/demo/two_stage.py',
                       checkpoint='work_dirs/demo/pool/two_stage.pth')),
    order='bgs', max_teachers=2,
    distill=dict(type='FeatureL2Loss', loss_weight=0.3, normalise=True))
