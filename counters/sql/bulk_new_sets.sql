-- Which of these combinations of dimensions (keys, joined by spaces) have no row that is in use on the day that is given.
-- Mostly few: to find that out takes less than to write all of them, and no such row is deleted on that day.
SELECT id FROM unnest(string_to_array(%(ids)s, ' ')::bigint[]) AS id
WHERE NOT EXISTS (SELECT FROM counters_dimensionset AS d WHERE d.id = id.id AND d.seen >= %(seen)s::date)
