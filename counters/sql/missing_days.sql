-- Which of these UTC days have no partition of the hit table.
SELECT day FROM unnest(%(days)s::date[]) AS day
WHERE to_regclass(%(hits)s || '_' || to_char(day, 'YYYYMMDD')) IS NULL
ORDER BY day
