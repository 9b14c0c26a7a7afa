"""Drafters made from a target's own answers."""
