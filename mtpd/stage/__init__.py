"""One stage: an mmengine run that can stop at any moment."""
