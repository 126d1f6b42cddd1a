# The plugin and mmdet's public detectors. Where another base has imported the
# plugin already, take checkpoints.py: mmengine lets no two bases say the same.
_base_ = './checkpoints.py'
custom_imports = dict(imports=['mtpd'])
