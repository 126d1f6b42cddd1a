"""Images: without labels, and drawn for trying the project."""
from .unlabelled import UnlabelledImages

__all__ = ['UnlabelledImages']
