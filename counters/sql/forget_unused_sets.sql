-- The combinations of dimensions that have not been in use since before a day, and that no hit row has.
SELECT d.id FROM counters_dimensionset AS d
WHERE d.seen < %(before)s::date AND NOT EXISTS (SELECT FROM counters_hit AS h WHERE h.dimensions_id = d.id)
ORDER BY d.id
