"""Live decoding: the only part of MetaSD that touches torch and transformers (the ``live`` extra).

Importing this package loads neither; its modules do. Import ``metasd.runtime.load`` first: it turns a missing package
into one line that says what to install.
"""
