"""The fast lane: ASGI application, recorder (no SQL, no Django), writer (SQL, no HTTP)."""
