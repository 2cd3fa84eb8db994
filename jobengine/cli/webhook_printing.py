"""How the command line shows webhooks."""

from typing import TYPE_CHECKING

from jobengine.cli.output import Form, print_fields, print_json, print_table

if TYPE_CHECKING:
    from jobengine.wire.webhooks import WebhookDelivery, WebhookView, WebhookWithSecret

__all__ = ["delivery_of", "print_webhook", "print_with_secret", "progress_of"]


def delivery_of(found: "WebhookView") -> "WebhookDelivery | None":
    """How far it has come, where the answer says so."""
    return found.delivery or None


def progress_of(delivery: "WebhookDelivery | None") -> tuple[object, ...]:
    """Delivered, lag, failures, and when the next attempt is due."""
    if delivery is None:
        return (None, None, None, None)
    return (delivery.delivered_seq, delivery.lag, delivery.failures, delivery.next_at)


def print_webhook(found: "WebhookView", output: Form) -> None:
    """One webhook, whole."""
    if output == "json":
        print_json(found)
        return
    print_fields(_fields(found))
    delivery = delivery_of(found)
    if delivery is not None and delivery.recent:
        print()
        print_table(
            ("AT", "SEQ", "TYPE", "ATTEMPT", "STATUS", "TOOK", "ERROR"),
            [
                (
                    one.at,
                    one.seq,
                    one.event_type,
                    one.number,
                    one.http_status,
                    f"{one.took_ms:.0f} ms",
                    one.error,
                )
                for one in delivery.recent
            ],
        )


def print_with_secret(made: "WebhookWithSecret", output: Form) -> None:
    """One webhook with the secret that this answer alone has."""
    if output == "json":
        print_json(made)
    else:
        print_fields([*_fields(made), ("secret", made.secret or None)])


def _fields(found: "WebhookView") -> list[tuple[str, object]]:
    delivery = delivery_of(found)
    seq, lag, failures, next_at = progress_of(delivery)
    return [
        ("webhook", found.webhook_id),
        ("url", found.url),
        ("types", ", ".join(found.types) or "all"),
        ("wrapping", found.wrapping),
        ("description", found.description or None),
        ("state", found.state),
        ("reason", found.reason),
        ("begins after", found.begins_after_seq),
        ("delivered", seq),
        ("lag", None if lag is None else f"{lag} events"),
        ("failures", failures),
        ("failing since", None if delivery is None else delivery.failing_since),
        ("next try", next_at),
        ("created", f"{found.created_at} by {found.created_by}"),
        ("changed", found.changed_at),
        ("revision", found.revision),
    ]
