"""Envoy's configuration, the check of one, and the programs of `authz up`. Off the decision path."""
