"""TPU slices: ahead-of-time compilation and its reports."""
