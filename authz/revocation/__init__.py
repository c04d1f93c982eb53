"""Which identities, tools and destinations are killed, and how fresh that knowledge is."""
