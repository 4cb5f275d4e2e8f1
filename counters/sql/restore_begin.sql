-- Begin, in psql, the one transaction in which a backup replaces what there is: keep out who else changes all of it,
-- and drop the tables of the apps ({prefixes} of their names) where they hold no counts yet or are to be replaced
-- ({replace}). All that psql writes is what it waits for.
\o /dev/null
BEGIN;
SET statement_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SELECT pg_try_advisory_xact_lock(hashtextextended('counters migrate', 0)) AS free \gset
\if :free
\else
    \echo Waiting for a migration to end.
    SELECT pg_advisory_xact_lock(hashtextextended('counters migrate', 0));
\endif
SELECT pg_try_advisory_xact_lock(hashtextextended('counters maintenance', 0)) AS free \gset
\if :free
\else
    \echo Waiting for maintenance to end.
    SELECT pg_advisory_xact_lock(hashtextextended('counters maintenance', 0));
\endif
SELECT pg_try_advisory_xact_lock(hashtextextended('counters reset', 0)) AS free \gset
\if :free
\else
    \echo Waiting for a reset or a forgetting to end.
    SELECT pg_advisory_xact_lock(hashtextextended('counters reset', 0));
\endif
DO $$
DECLARE
    tables text;
    functions text;
BEGIN
    SELECT string_agg(c.oid::regclass::text, ', ') INTO tables
    FROM pg_class AS c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND EXISTS (SELECT FROM unnest({prefixes}::text[]) AS prefix WHERE starts_with(c.relname, prefix));
    IF tables IS NULL THEN
        RETURN;
    END IF;
    IF to_regclass('public.counters_counter') IS NULL THEN
        RAISE EXCEPTION 'The database holds tables of something else: %.', tables;
    END IF;
    LOOP
        BEGIN
            -- First, as batches do.
            LOCK TABLE public.counters_counter IN ACCESS EXCLUSIVE MODE;
            IF NOT {replace} AND EXISTS (SELECT FROM public.counters_counter) THEN
                RAISE EXCEPTION 'The database holds counts; --replace has the backup replace them.';
            END IF;
            EXECUTE 'DROP TABLE ' || tables;
            EXIT;
        EXCEPTION WHEN deadlock_detected THEN
            -- All that was locked here is free again: who came to the tables in another order goes first.
        END;
    END LOOP;
    SELECT string_agg(p.oid::regprocedure::text, ', ') INTO functions
    FROM pg_proc AS p
    WHERE p.pronamespace = 'public'::regnamespace AND starts_with(p.proname, 'counters_');
    IF functions IS NOT NULL THEN
        EXECUTE 'DROP FUNCTION ' || functions;
    END IF;
END
$$;
