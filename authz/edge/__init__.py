"""What Envoy talks to: transports, ext_authz, ext_proc, health, and the one builder of answers."""
