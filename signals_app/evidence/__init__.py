"""Evidence for or against a trade: one module a piece, registered by name in `agents/evidence.py`. Pure."""
