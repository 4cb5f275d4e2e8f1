-- Have a row for each combination of dimensions in a load, in use on the day that is given.
INSERT INTO counters_dimensionset AS d
    (id, seen, method, status, consumer, country, referrer, referrer_url, browser, os, device, bot, route)
SELECT
    id, %(seen)s::date,
    method, status, consumer, country, referrer, referrer_url, browser, os, device, bot, route
FROM json_to_recordset(%(sets)s::json) AS row (
    id bigint, method text, status smallint, consumer text, country text, referrer text, referrer_url text,
    browser text, os text, device text, bot boolean, route text
)
ORDER BY id
ON CONFLICT (id) DO UPDATE SET seen = excluded.seen, consumer = excluded.consumer WHERE d.seen < excluded.seen
