"""Images for trying the project without downloading any."""
