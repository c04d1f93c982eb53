"""One line of migrations for each room: see `authz.database`."""
