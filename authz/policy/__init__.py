"""Which policy answers and what its answer means: engines, contracts, activation, redaction plans."""
