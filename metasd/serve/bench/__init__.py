"""Driving servers that speak OpenAI's protocol, to measure how fast they answer. Knows HTTP; loads no model."""
