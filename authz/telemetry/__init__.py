"""What operators see: spans, metrics and logs of decisions.

This package decides nothing about a call. It must never hold a token, an argument or a secret, and it must never
delay or fail a decision: what it cannot keep up with is dropped and counted. Every name stands in `names.py`.
"""
