"""psycopg's protocol engine on Trio: sessions, connections, a pool, notifications."""
