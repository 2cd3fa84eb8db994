"""Who asks: signing key, tokens, scopes, page tokens.

Deliberately not here: headers and status codes (the doors), and what a subject may do beyond its
scopes and tenants.
"""
