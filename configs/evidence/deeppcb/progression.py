# Few labels, many images, on another set.
#   python benchmarks/evidence.py --dataset deeppcb --only labels --data DATA
_base_ = './student.py'
custom_imports = dict(imports=['mtpd'])
work_dir = 'work_dirs/evidence/deeppcb'
pool = 'work_dirs/evidence/deeppcb/pool/'
here = 'configs/evidence/deeppcb/'
mtpd = dict(
    student=dict(checkpoint=pool + 'student.pth'),
    teachers=dict(
        wide=dict(config=here + 'wide.py', checkpoint=pool + 'wide.pth'),
        pretrained=dict(config=here + 'pretrained.py',
                        checkpoint=pool + 'pretrained.pth')),
    order=['wide'],
    unlabelled=dict(folder=_base_.data_root + 'train/', batch_size=8),
    distill=dict(type='FeatureL2Loss', normalise=True, loss_weight='auto'))
