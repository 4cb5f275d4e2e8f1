"""Share links: a signed address, and a signed cookie for whoever has followed it. Each use asks if it still holds."""

from uuid import UUID

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponseBase, QueryDict

from counters.models import ShareLink
from counters.questions import Question

COOKIE = "hitcounter_share"
_SALT = "counters.share"


class OutsideShare(Exception):
    """This link shows the paths below its own prefix, and nothing else."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


def token(link: ShareLink) -> str:
    """What stands in the address of a link."""
    return signing.Signer(salt=_SALT).sign(link.id.hex)


def link_with(token: str) -> ShareLink | None:
    """The link that has this token, in force or not; None for one that was made up or whose link has been deleted."""
    try:
        id = signing.Signer(salt=_SALT).unsign(token)
    except signing.BadSignature:
        return None
    return ShareLink.objects.filter(id=UUID(id)).first()


def remember(link: ShareLink, response: HttpResponseBase) -> None:
    """Have the browser say from now on, until it is closed, that it was given this link."""
    response.set_cookie(COOKIE, token(link), httponly=True, samesite="Lax", secure=settings.SESSION_COOKIE_SECURE)


def begin(request: HttpRequest) -> bool:
    """Answer this request by the share link that whoever sends it was given; False if there is none in force."""
    sent = request.COOKIES.get(COOKIE)
    link = link_with(sent) if sent else None
    if link is None or not link.in_force:
        return False
    request.share_link = link  # type: ignore[attr-defined]
    return True


def shared_by(request: HttpRequest) -> ShareLink | None:
    """The share link by which this request is answered, None where it is answered in full."""
    return getattr(request, "share_link", None)


def confine(link: ShareLink, given: QueryDict) -> None:
    """Have parameters that name no path and no prefix name the link's."""
    if not given.get("path") and not given.get("prefix"):
        given["prefix"] = link.prefix


def check(link: ShareLink, question: Question) -> None:
    """Pass if a question is about nothing but what the link shows. Raises OutsideShare."""
    if not link.shows(question.path or question.prefix):
        raise OutsideShare
