# GFL, 640x400, on torchvision's ShuffleNetV2,
# taught by two detectors of the zoo. The command trains it alone, then with
# its teachers, and compares both:
#   python tools/from_scratch.py configs/light/mtpd_gfl_shufflenetv2.py
# NOT YET RUN on COCO by us; the pool and its APs: teachers_of_gfl.py.
_base_ = ['./gfl_shufflenetv2.py', './_base_/teachers_of_gfl.py']
mtpd = dict(student=dict(checkpoint='work_dirs/light/gfl_shufflenetv2.pth'))
