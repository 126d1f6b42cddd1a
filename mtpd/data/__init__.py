"""Images to try the project on without downloading any."""
