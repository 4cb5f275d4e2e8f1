-- Which UTC days have hits or may have (partition, rolled up, late, chained), and since when hits and hours are kept.
SELECT 'day', coalesce(p.day, r.day), p.day IS NOT NULL, r.day IS NOT NULL, l.day IS NOT NULL, coalesce(r.chained, false)
FROM (
    SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'counters_hit'::regclass
) AS p
FULL JOIN counters_rolledday AS r ON r.day = p.day
LEFT JOIN (SELECT DISTINCT day FROM counters_lateday) AS l ON l.day = coalesce(p.day, r.day)
UNION ALL
SELECT what, since, false, false, false, false FROM counters_retention
ORDER BY 2
