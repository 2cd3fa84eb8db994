"""The PostgreSQL store: driver, named statements, migrations."""
