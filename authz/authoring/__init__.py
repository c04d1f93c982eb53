"""What a policy's author begins with. Never on the path of a decision."""
