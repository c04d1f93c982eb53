"""The control plane: its services, and who may call them."""
