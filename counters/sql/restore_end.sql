-- End the transaction of a restore: not if what came is of something else, or of a release with more migrations than
-- are {known}. Who is connected is cut off: writers remember which combinations of dimensions there are.
DO $$
DECLARE
    newer text;
BEGIN
    IF to_regclass('public.django_migrations') IS NULL OR to_regclass('public.counters_counter') IS NULL THEN
        RAISE EXCEPTION 'It is a backup of something else.';
    END IF;
    SELECT min(app || '.' || name) INTO newer
    FROM public.django_migrations
    WHERE app || '.' || name <> ALL ({known}::text[]);
    IF newer IS NOT NULL THEN
        RAISE EXCEPTION 'It was made by a newer release (its migration % is not known here): restore it with that.', newer;
    END IF;
END
$$;
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND backend_type = 'client backend'
    AND pid <> pg_backend_pid();
COMMIT;
