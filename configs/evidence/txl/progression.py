# Few labels, many images, a teacher that knows more.
#   python benchmarks/evidence.py --dataset txl --only labels --data ../data
_base_ = './student.py'
custom_imports = dict(imports=['mtpd'])
work_dir = 'work_dirs/evidence/txl'
pool = 'work_dirs/evidence/txl/pool/'
here = 'configs/evidence/txl/'
mtpd = dict(
    student=dict(checkpoint=pool + 'student.pth'),
    teachers=dict(
        wide=dict(config=here + 'wide.py', checkpoint=pool + 'wide.pth'),
        wide_24=dict(config=here + 'wide_24.py',
                     checkpoint=pool + 'wide_24.pth'),
        pretrained=dict(config=here + 'pretrained.py',
                        checkpoint=pool + 'pretrained.pth'),
        pretrained_85=dict(config=here + 'pretrained_85.py',
                           checkpoint=pool + 'pretrained_85.pth'),
        swin=dict(config=here + 'swin.py', checkpoint=pool + 'swin.pth'),
        pretrained_mobile=dict(config=here + 'pretrained_mobile.py',
                               checkpoint=pool + 'pretrained_mobile.pth')),
    order=['wide'],
    unlabelled=dict(folder=_base_.data_root + 'train/', batch_size=8),
    distill=dict(type='FeatureL2Loss', normalise=True, loss_weight='auto'))
