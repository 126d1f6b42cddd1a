"""From a config to a checked plan."""
