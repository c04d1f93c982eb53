"""Who is calling: bearer tokens, the keys that verify them, and what a caller is told when it is not known.

Decides which `Principal` a request speaks for, and nothing about what that principal may do. Must never
guess: a caller without proof has no identity. Trusts the configured issuers' published keys, and Envoy's own
view of a peer only where configuration says so (`trusted_peer`).
"""
