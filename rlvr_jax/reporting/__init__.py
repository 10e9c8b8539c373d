"""What a run writes, and its pages and plots."""
