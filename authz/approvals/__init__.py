"""Requests for a person's approval, and the single-use override tokens that follow."""
