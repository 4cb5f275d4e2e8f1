-- Delete those of some counters that have no hits left, with their paths. They are locked, so none gets a hit meanwhile.
DELETE FROM counters_counter WHERE id = ANY(%(ids)s::uuid[]) AND hits = 0
