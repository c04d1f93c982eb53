"""The record of each decision: what is kept, and what must not be kept.

This package decides the bytes of a record; appending them durably is the extension's. It must never write a token,
a credential or an unmasked secret, and it imports no other room.
"""
