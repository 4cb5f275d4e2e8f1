-- The salt of a day's visitors, made of the random bytes given unless it is there.
INSERT INTO counters_visitorsalt (day, salt) VALUES ($1::date, decode($2::text, 'hex'))
ON CONFLICT (day) DO UPDATE SET day = excluded.day
RETURNING encode(salt, 'hex')
