-- Replace the values of dimensions of some paths on one day.
UPDATE counters_dailyhits AS d SET dimensions = v.dimensions
FROM unnest(%(ids)s::uuid[], %(parts)s::smallint[], %(dimensions)s::text[]) AS v (id, part, dimensions)
WHERE d.counter_id = v.id AND d.day = %(day)s AND d.part = v.part
