"""Images without labels: where they are, and how they are prepared."""
from .data_set import (dataset_config, images_per_step, pipeline_of,
                       read_entries, training_part, unlabelled_hash)

__all__ = ['dataset_config', 'images_per_step', 'pipeline_of', 'read_entries',
           'training_part', 'unlabelled_hash']
