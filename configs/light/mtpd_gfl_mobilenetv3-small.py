# GFL, 640x400, on timm's MobileNetV3-Small,
# taught by two detectors of the zoo. The command trains it alone, then with
# its teachers, and compares both:
#   python tools/from_scratch.py configs/light/mtpd_gfl_mobilenetv3-small.py
# NOT YET RUN on COCO by us; the pool and its APs: teachers_of_gfl.py.
_base_ = ['./gfl_mobilenetv3-small.py', './_base_/teachers_of_gfl.py']
mtpd = dict(student=dict(
    checkpoint='work_dirs/light/gfl_mobilenetv3-small.pth'))
