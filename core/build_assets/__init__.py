"""Programs that build the precomputed files in ``assets/``."""
