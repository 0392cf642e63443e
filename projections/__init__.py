"""Projections: what is read, derived from the log and never written by anyone else."""
