-- The combinations of dimensions that the hits of one UTC day have, for the statements that roll it up.
CREATE TEMPORARY TABLE rolled_sets ON COMMIT DROP AS
SELECT d.id, d.bot, {columns_of_d}
FROM counters_dimensionset AS d
WHERE d.seen >= {day} AND d.id IN (SELECT dimensions_id FROM counters_hit WHERE at >= {start} AND at < {end})
