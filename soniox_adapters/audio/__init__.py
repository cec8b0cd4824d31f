"""Audio on its way to a session: WAV headers, sources and pacing."""
