"""Tables for a terminal and images for a page."""
