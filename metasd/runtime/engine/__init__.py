"""The passes of one model with its cache."""
