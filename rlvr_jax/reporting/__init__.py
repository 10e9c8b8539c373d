"""What a run writes, and the pages and plots made of it."""
