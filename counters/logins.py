"""Wrong logins are limited: so many for a name, and so many for whichever names, from one address. (Handler of axes.)

Of an attempt, the name and a keyed hash of the address are kept until the limit has passed, and nothing else.
"""

import logging
from datetime import timedelta
from ipaddress import IPv6Address, ip_network
from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.db import transaction
from django.db.models import F, Max
from django.http import HttpRequest
from django.utils.crypto import salted_hmac

from counters import clients
from counters.hits import now

logger = logging.getLogger(__name__)

#: Of an IPv6 address, what tells networks apart: whoever has one has the 2^64 addresses in it.
NETWORK_BITS = 64
#: So many times as many wrong logins may come from an address, whoever's name they have.
OF_ALL_NAMES = 5


def hashed_address(request: HttpRequest) -> str:
    """The client's address, or IPv6 network, as a number that has the form of an address, which is how axes keeps it.

    Under the service's secret key: who has the database alone cannot tell what it stands for.
    """
    address = clients.address_of(request)
    known = str(address) if address is None or address.version == 4 else str(_network(address))
    return str(IPv6Address(salted_hmac("counters.logins", known, algorithm="sha256").digest()[:16]))


def _network(address: IPv6Address) -> Any:
    return ip_network((address, NETWORK_BITS), strict=False)


def over_in(request: HttpRequest) -> timedelta:
    """How long it takes, at most, until somebody who is locked out may try again."""
    attempts = AccessAttempt.objects.filter(ip_address=hashed_address(request))
    last = attempts.aggregate(last=Max("attempt_time"))["last"] or now()
    left: timedelta = last + settings.AXES_COOLOFF_TIME - now()
    return max(left, timedelta(seconds=1))


class Attempts(AxesDatabaseHandler):  # type: ignore[misc]
    """Counts wrong logins in the database, which all worker processes share."""

    def get_failures(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> int:
        """How many there were for this name from this address, or a fifth of all from there if that is more."""
        for_name, for_all = (
            sum(attempts.values_list("failures_since_start", flat=True))
            for attempts in self.get_user_attempts(request, credentials)
        )
        return int(max(for_name, for_all // OF_ALL_NAMES))

    def user_login_failed(
        self, sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any
    ) -> None:
        if request is None or request.axes_locked_out:  # type: ignore[attr-defined]
            return  # who is locked out is not so for longer by trying
        self.clean_expired_user_attempts(request, credentials)
        self._count(request, credentials["username"])
        if self.is_locked(request, credentials):
            request.axes_locked_out = True  # type: ignore[attr-defined]
            logger.warning("After too many wrong logins, no more are taken from an address for a while.")

    def _count(self, request: Any, name: str) -> None:
        key = {"username": name, "ip_address": request.axes_ip_address, "user_agent": ""}
        first = {"attempt_time": request.axes_attempt_time, "failures_since_start": 1}
        with transaction.atomic():
            attempt, created = AccessAttempt.objects.get_or_create(**key, defaults=first)
            if not created:
                again = {**first, "failures_since_start": F("failures_since_start") + 1}
                AccessAttempt.objects.filter(pk=attempt.pk).update(**again)

    def user_logged_in(self, sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
        """Forget this name's wrong logins from this address; not others', which a login of one's own must not hide."""
        super().user_logged_in(sender, request, user, **kwargs)
        AccessAttempt.objects.filter(username=user.get_username(), ip_address=request.axes_ip_address).delete()
