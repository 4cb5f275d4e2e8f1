-- What a transaction that writes many hits needs, whatever the role's defaults: a commit is on disk, times are UTC.
SELECT
    set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true),
    set_config('statement_timeout', '0', true),
    set_config('jit', 'off', true),
    set_config('work_mem', '64MB', true),
    set_config('TimeZone', 'UTC', true)
