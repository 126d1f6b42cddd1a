# RetinaNet on torchvision's SqueezeNet 1.1,
# taught by two detectors of the zoo. The command trains it alone, then with
# its teachers, and compares both:
#   python tools/from_scratch.py configs/light/mtpd_retinanet_squeezenet.py
# NOT YET RUN on COCO by us; the pool and its APs: teachers_of_retinanet.py.
_base_ = ['./retinanet_squeezenet.py', './_base_/teachers_of_retinanet.py']
mtpd = dict(student=dict(
    checkpoint='work_dirs/light/retinanet_squeezenet.pth'))
