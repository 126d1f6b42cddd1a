"""Tables for a terminal and pictures for a page."""
