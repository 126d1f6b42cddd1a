# The demo, few labels and many images: `make demo`, or
#   python tools/draw_shapes.py configs/demo/few_labels/student.py
#   python tools/from_scratch.py configs/demo/few_labels/progression.py
# DEMO_SEED=1 takes another seed.
_base_ = './student.py'
custom_imports = dict(imports=['mtpd'])
work_dir = f'{_base_.folder}seed{_base_.seed}'
pool = work_dir + '/pool/'
mtpd = dict(
    student=dict(checkpoint=None),
    teachers=dict(wide=dict(config='configs/demo/few_labels/teacher.py',
                            checkpoint=pool + 'wide.pth')),
    order=['wide'],
    unlabelled=dict(folder=_base_.data_root + 'train/', batch_size=8),
    inherit=('neck', 'head'),
    strides=(8, 16, 32))  # of no shape is the box larger than 46 pixels
