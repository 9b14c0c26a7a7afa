"""Gymnasium environments that replay traces."""
