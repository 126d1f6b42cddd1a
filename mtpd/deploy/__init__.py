"""A trained detector as one ONNX file, from the image to the boxes."""
from .export import Exported, export_onnx
from .support import NotExportable

__all__ = ['Exported', 'NotExportable', 'export_onnx']
