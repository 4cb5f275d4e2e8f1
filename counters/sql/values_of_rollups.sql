-- Hits and visitors of all paths by the values of several dimensions at once, from what is rolled up.
-- Of an hour's visitors, those are counted that were not seen before in the period, which begins at {start}.
SELECT
    asked.name AS dimension, CASE WHEN asked.name <> 'bot' THEN r.value WHEN r.bot THEN 'true' ELSE 'false' END AS value,
    sum(r.hits) AS hits,
    coalesce(sum(r.visitors) FILTER (WHERE r.gap = 0 OR r.start - r.gap * interval '1 hour' < {start}), 0) AS visitors
FROM (VALUES {asked}) AS asked (name, stored)
JOIN counters_rollup AS r ON r.dimension = asked.stored
WHERE {conditions}
GROUP BY 1, 2
