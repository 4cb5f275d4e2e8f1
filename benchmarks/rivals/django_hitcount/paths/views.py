"""The request that counts, and the statistics."""

from django.http import HttpRequest, JsonResponse
from hitcount.models import HitCount
from hitcount.views import HitCountMixin

from paths.models import Page


def count(request: HttpRequest) -> JsonResponse:
    """The count is the one before this hit and this hit: what others have added meanwhile is not read again."""
    page, _ = Page.objects.get_or_create(path=request.path)
    counted = HitCount.objects.get_for_object(page)
    before = counted.hits
    HitCountMixin.hit_count(request, counted)
    return JsonResponse({"path": request.path, "count": before + 1})


def stats(request: HttpRequest) -> JsonResponse:
    counts = dict(HitCount.objects.values_list("object_pk", "hits"))
    rows = [(path, counts.get(number, 0)) for number, path in Page.objects.values_list("pk", "path")]
    rows.sort(key=lambda row: (-row[1], row[0]))
    return JsonResponse([{"path": path, "count": hits} for path, hits in rows], safe=False)
