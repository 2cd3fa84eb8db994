"""The notifier's core: what is posted to webhooks, when, and in what order (``machine``)."""

from jobengine.core.notifier.limits import NotifierLimits
from jobengine.core.notifier.machine import Notifier
from jobengine.core.notifier.records import ENGINE, pause_in_doubt
from jobengine.core.notifier.state import NotifierCounts

__all__ = ["ENGINE", "Notifier", "NotifierCounts", "NotifierLimits", "pause_in_doubt"]
