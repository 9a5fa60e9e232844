"""State that tasks share."""
