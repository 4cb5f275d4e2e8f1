-- Which of these counters there are: $1 ids, joined by line feeds; the answer as 32 hexadecimal digits each.
SELECT replace(id::text, '-', '') FROM counters_counter WHERE id = ANY (string_to_array($1::text, E'\n')::uuid[])
