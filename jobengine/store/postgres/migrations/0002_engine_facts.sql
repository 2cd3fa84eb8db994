-- What is fixed for a database once an engine has served it.
CREATE TABLE engine_facts (
    name text CONSTRAINT engine_facts_pkey PRIMARY KEY,
    value text NOT NULL
);
