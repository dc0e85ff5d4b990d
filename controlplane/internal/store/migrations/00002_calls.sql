-- Which call made a run, so that one which is repeated, since its answer was lost,
-- is told from another that wants the same name.

-- +goose Up

ALTER TABLE runs ADD COLUMN call TEXT NOT NULL DEFAULT ''; -- a digest of it; empty where it cannot be told

-- +goose Down

ALTER TABLE runs DROP COLUMN call;
