"""Benchmarks: what a decision costs here, beside what it costs elsewhere, measured in one run."""
