-- Take what has been added to these days' hits into the summary (BRIN) by which a time is found. What is not in it yet
-- is read for every question, and otherwise only a vacuum takes it in.
SELECT brin_summarize_new_values(i.indexrelid)
FROM unnest(%(partitions)s::text[]) AS p (name)
JOIN pg_index AS i ON i.indrelid = to_regclass(p.name)
JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_am AS a ON a.oid = c.relam AND a.amname = 'brin'
