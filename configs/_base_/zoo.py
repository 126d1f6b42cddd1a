# The plugin and mmdet's public detectors. If another base imports the plugin
# already, take checkpoints.py: mmengine refuses two bases that set the same
# field.
_base_ = './checkpoints.py'
custom_imports = dict(imports=['mtpd'])
