"""What the blocking and the async sessions share: nothing in here does I/O."""
