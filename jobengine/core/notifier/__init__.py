"""The notifier's core: what is posted to webhooks, when, and in what order (``machine``)."""

from jobengine.core.notifier.limits import NotifierLimits
from jobengine.core.notifier.machine import Notifier, NotifierCounts
from jobengine.core.notifier.records import ENGINE

__all__ = ["ENGINE", "Notifier", "NotifierCounts", "NotifierLimits"]
