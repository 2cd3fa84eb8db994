"""`jobengine openapi`: the description of the REST API, without a running engine."""

import click

__all__ = ["openapi"]


@click.command()
def openapi() -> None:
    """Print the OpenAPI 3.1 document of the REST API.

    A running node serves the same at /openapi/jobengine.json, named by /.well-known/openapi.
    """
    from jobengine.http.published import published_text

    click.echo(published_text(), nl=False)
