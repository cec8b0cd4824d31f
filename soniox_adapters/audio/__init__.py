"""Getting audio to a session: sources and pacing."""
