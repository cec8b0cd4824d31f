"""The blocking session, for threads."""
