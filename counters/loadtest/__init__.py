"""The load test: what it sends, the process that sends it, and how it is run and kept."""
