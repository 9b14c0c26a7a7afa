"""How a comparison is shown: on the terminal, as CSV, and as one self-contained HTML page.

Everything here reads result documents (plain dicts); nothing here computes a result.
"""
