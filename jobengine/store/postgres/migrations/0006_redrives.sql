-- Redrives of dead letters: what was asked for, and how far each has come. Counts move in the commit
-- of what they count, so that a redrive goes on after any end of the engine without a letter lost
-- or replayed twice.
CREATE TABLE redrives (
    tenant_id text COLLATE "C" NOT NULL,
    redrive_id text COLLATE "C" NOT NULL,
    changed_at bigint NOT NULL,
    after_at bigint,
    replayed integer NOT NULL,
    failed integer NOT NULL,
    state text COLLATE "C" NOT NULL,
    after_id text COLLATE "C",
    last_error text,
    definition json NOT NULL,
    CONSTRAINT redrives_pkey PRIMARY KEY (tenant_id, redrive_id),
    CONSTRAINT redrives_state_is_known
        CHECK (state IN ('running', 'paused', 'stopped', 'completed')),
    CONSTRAINT redrives_counts_are_not_negative CHECK (replayed >= 0 AND failed >= 0)
);
CREATE INDEX redrives_unfinished ON redrives (tenant_id, redrive_id)
    WHERE state IN ('running', 'paused');

ALTER TABLE redrives ENABLE ROW LEVEL SECURITY;
ALTER TABLE redrives FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_of_transaction ON redrives TO jobengine_api
    USING (tenant_id = nullif(current_setting('jobengine.tenant', true), ''));
CREATE POLICY every_tenant ON redrives TO jobengine_ledger USING (true);

GRANT SELECT ON redrives TO jobengine_api, jobengine_ledger;
GRANT INSERT, UPDATE ON redrives TO jobengine_ledger;

-- Dead letters are counted by what they have in common, tens of thousands at a time. The indexes that
-- give their order hold those values too, so that a count reads no row, and no error with it.
DROP INDEX dead_letters_newest;
CREATE INDEX dead_letters_newest ON dead_letters (tenant_id, at, dead_letter_id)
    INCLUDE (state, class, job_type, queue, signature);
DROP INDEX dead_letters_open;
CREATE INDEX dead_letters_open ON dead_letters (tenant_id, at, dead_letter_id)
    INCLUDE (state, class, job_type, queue, signature)
    WHERE state = 'open';
