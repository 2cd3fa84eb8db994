"""Whose signatures a node accepts, from its configuration."""

from jobengine.auth.claims import ClaimNames
from jobengine.auth.issuers import ExternalIssuer, IssuerRules
from jobengine.auth.jwks_source import JwksSource
from jobengine.cli.configuration import Configuration
from jobengine.cli.failure import CommandFailedError
from jobengine.http.identities import Trust

__all__ = ["trust_of"]


def trust_of(configuration: Configuration) -> Trust:
    """Raises `CommandFailedError` where an external issuer is named by halves."""
    options = configuration.options
    named = {"jwks": options.jwks, "issuer": options.issuer, "audience": options.audience}
    missing = [name for name, value in named.items() if value is None]
    if len(missing) == len(named):
        return Trust(key_file=configuration.key_file)
    if options.jwks is None or options.issuer is None or options.audience is None:
        raise CommandFailedError(
            f"an external issuer needs --jwks, --issuer and --audience; missing: "
            f"{', '.join(f'--{name}' for name in missing)}"
        )
    try:
        rules = IssuerRules(
            issuer=options.issuer,
            audience=options.audience,
            leeway_s=options.leeway_s,
            claims=ClaimNames(
                scopes=_split(options.claim_scopes),
                roles=_split(options.claim_roles),
                tenants=_split(options.claim_tenants),
            ),
        )
        source = JwksSource(options.jwks, ttl_s=options.jwks_ttl_s)
    except ValueError as error:
        raise CommandFailedError(f"--jwks, --issuer: {error}") from None
    return Trust(key_file=configuration.key_file, issuers=[ExternalIssuer(rules, source)])


def _split(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())
