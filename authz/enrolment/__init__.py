"""How a sidecar joins a control plane once, stays known to it by a certificate, and starts again without it."""
