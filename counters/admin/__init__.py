"""The admin: counters to browse, search and reset, imported logs, load tests, verifications, API keys, share links.

No figure is edited.
"""

from django.contrib import admin

from counters.admin import counts, keys, runs

__all__ = ["counts", "keys", "runs"]

admin.site.site_header = admin.site.site_title = "Hit Counter"
admin.site.index_title = "Counts, imports and load tests"
admin.site.site_url = "/"
