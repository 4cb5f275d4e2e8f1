-- Which of these counters there are, and which of these prefixes have any: $1 ids, $2 prefixes, joined by line feeds.
-- The answer has ids as 32 hexadecimal digits, and prefixes, which begin with a slash.
SELECT replace(id::text, '-', '') FROM counters_counter WHERE id = ANY (string_to_array($1::text, E'\n')::uuid[])
UNION ALL
SELECT prefix FROM unnest(string_to_array($2::text, E'\n')) AS prefix
WHERE EXISTS (
    SELECT FROM counters_counter WHERE path >= prefix COLLATE "C" AND path < (prefix || E'\x7f') COLLATE "C"
)
