"""Drafters that need no model: proposals from tokens alone (numpy only, no torch)."""
