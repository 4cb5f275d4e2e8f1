"""Other ways to count hits, each the best form of its idea. They are run in environments of their own, not imported."""
