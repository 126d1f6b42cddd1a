# The demo, few labels and many images: `make demo`, or
#   python tools/draw_shapes.py configs/demo/few_labels/student.py
#   python tools/from_scratch.py configs/demo/few_labels/progression.py
_base_ = './student.py'
custom_imports = dict(imports=['mtpd'])
work_dir = 'work_dirs/few_labels'
pool = 'work_dirs/few_labels/pool/'
mtpd = dict(
    student=dict(checkpoint=pool + 'student.pth'),
    teachers=dict(wide=dict(config='configs/demo/few_labels/teacher.py',
                            checkpoint=pool + 'wide.pth')),
    order=['wide'],
    unlabelled=dict(folder=_base_.data_root + 'train/', batch_size=8),
    inherit=('neck', 'head'))
