"""Trained heads (EAGLE-1/2, EAGLE-3, EAGLE-3.1): reading what people publish, and drafting with it.

``files`` reads a checkpoint, ``describe`` says in one description what it is, ``tensors`` holds its weights to that,
``module`` computes, ``attach`` joins it to a target, ``drafter`` drafts.
"""
