"""Budgets and rate limits: what is left, and reservations made before a call runs."""
