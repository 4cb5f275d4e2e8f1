-- Hits of all paths by the values of several dimensions at once, from what is rolled up.
SELECT
    asked.name AS dimension, CASE WHEN asked.name <> 'bot' THEN r.value WHEN r.bot THEN 'true' ELSE 'false' END AS value,
    sum(r.hits)::bigint AS hits
FROM (VALUES {asked}) AS asked (name, stored)
JOIN counters_rollup AS r ON r.dimension = asked.stored
WHERE {conditions}
GROUP BY 1, 2
