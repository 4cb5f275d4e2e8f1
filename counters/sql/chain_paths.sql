-- Count the paths of one rolled-up day by how many days before it each was hit last (see models.DailyPaths).
INSERT INTO counters_dailypaths (day, audience, gap, paths)
SELECT today.day, a.audience, coalesce(today.day - earlier.day, 0), count(*)
FROM (
    SELECT counter_id, day, sum(hits) AS hits, sum(bot_hits) AS bot_hits
    FROM counters_dailyhits
    WHERE day = %(day)s
    GROUP BY 1, 2
) AS today
CROSS JOIN LATERAL (VALUES
    ('all', true), ('people', today.hits > today.bot_hits), ('bots', today.bot_hits > 0)
) AS a (audience, present)
LEFT JOIN LATERAL (
    SELECT d.day
    FROM counters_dailyhits AS d
    WHERE d.counter_id = today.counter_id AND d.day < today.day
        AND CASE a.audience WHEN 'people' THEN d.hits > d.bot_hits WHEN 'bots' THEN d.bot_hits > 0 ELSE true END
    ORDER BY d.day DESC
    LIMIT 1
) AS earlier ON true
WHERE a.present
GROUP BY 1, 2, 3
