"""From images to moments, costs and the order of the teachers."""
