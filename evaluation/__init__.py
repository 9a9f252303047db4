"""Benchmarks: protocols, what trackers answered on them, and the report."""
