"""What Alembic reads. `authz.database.migrate` runs it."""
