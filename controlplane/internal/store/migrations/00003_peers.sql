-- Which process holds the tunnel of a data plane, and what is known of the
-- certificates by which one dials.

-- +goose Up

-- A row is written by its process alone. Its times are by the database's clock.
CREATE TABLE tunnel_holders (
    organization TEXT   NOT NULL,
    cluster      TEXT   NOT NULL,
    process      TEXT   NOT NULL,
    endpoint     TEXT   NOT NULL, -- where other processes reach it: host:port
    since        BIGINT NOT NULL,
    alive_until  BIGINT NOT NULL, -- unless it says so again
    PRIMARY KEY (organization, cluster, process)
);
CREATE INDEX tunnel_holders_process ON tunnel_holders (organization, process);

-- Fingerprints of the gateway's CAs: the one that signed, and those that the data
-- plane was told of together with the certificate, one a line. Empty: from before.
ALTER TABLE certificates ADD COLUMN issuer TEXT NOT NULL DEFAULT '';
ALTER TABLE certificates ADD COLUMN trusts TEXT NOT NULL DEFAULT '';
-- The first tunnel that was opened with it, 0 for none.
ALTER TABLE certificates ADD COLUMN dialled_at BIGINT NOT NULL DEFAULT 0;

-- +goose Down

ALTER TABLE certificates DROP COLUMN dialled_at;
ALTER TABLE certificates DROP COLUMN trusts;
ALTER TABLE certificates DROP COLUMN issuer;
DROP TABLE tunnel_holders;
