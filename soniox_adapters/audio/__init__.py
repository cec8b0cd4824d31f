"""Getting audio to a session: WAV headers, sources and pacing."""
