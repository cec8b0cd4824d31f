"""What sessions have in common, whatever world they live in."""
