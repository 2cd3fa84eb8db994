-- Room for the days to come.

-- name: add_day_partitions
-- purpose: make the partitions of yesterday up to days_ahead days from now that do not exist
-- rows: 1, the number made
-- index: none: looked up in the catalogue
-- locks: SHARE UPDATE EXCLUSIVE on a table that gets a partition: commits go on
-- parameters: now_at bigint, days_ahead integer
SELECT add_day_partitions(%(now_at)s, %(days_ahead)s);

-- name: drop_idempotency_partitions
-- purpose: drop the days of idempotency answers that end at or before an instant
-- rows: 1, the number dropped; or lock_not_available after 100 ms
-- index: none: looked up in the catalogue
-- locks: SHARE UPDATE EXCLUSIVE on idempotency_answers, and ACCESS EXCLUSIVE while dropping a file
-- parameters: before_at bigint
SELECT drop_idempotency_partitions(%(before_at)s);

-- name: drop_log_partitions
-- purpose: drop the days of log lines that end at or before an instant
-- rows: 1, the number dropped; or lock_not_available after 100 ms
-- index: none: looked up in the catalogue
-- locks: SHARE UPDATE EXCLUSIVE on job_logs, and ACCESS EXCLUSIVE while dropping a file
-- parameters: before_at bigint
SELECT drop_log_partitions(%(before_at)s);
