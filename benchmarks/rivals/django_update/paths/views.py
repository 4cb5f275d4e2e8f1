"""The request that counts, synchronous and asynchronous, and the statistics."""

from django.http import HttpRequest, JsonResponse

from paths.models import Counter


def count(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"path": request.path, "count": Counter.objects.count_hit(request.path)})


async def count_async(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"path": request.path, "count": await Counter.objects.acount_hit(request.path)})


def stats(request: HttpRequest) -> JsonResponse:
    rows = Counter.objects.order_by("-hits", "path").values_list("path", "hits")
    return JsonResponse([{"path": path, "count": hits} for path, hits in rows], safe=False)
