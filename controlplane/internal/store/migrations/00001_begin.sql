-- The tables as both databases have them. Times are microseconds since 1970 in
-- UTC, 0 where there is none; messages are encoded; nothing is NULL, so that every
-- column can be compared in a page's position. See docs/store.md.

-- +goose Up

CREATE TABLE organizations (
    name            TEXT   NOT NULL PRIMARY KEY,
    change          BIGINT NOT NULL DEFAULT 0, -- of its runs; see runs.change
    config_revision BIGINT NOT NULL DEFAULT 1  -- of the clusters' configuration
);

CREATE TABLE projects (
    organization TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    description  TEXT    NOT NULL,
    labels       BYTEA   NOT NULL, -- task.Labels
    state        INTEGER NOT NULL, -- project.ProjectState
    created_at   BIGINT  NOT NULL,
    updated_at   BIGINT  NOT NULL,
    PRIMARY KEY (organization, id)
);
CREATE INDEX projects_created ON projects (organization, created_at, id);

-- What tasks and actions run, once for each organisation.
CREATE TABLE task_specs (
    organization TEXT   NOT NULL,
    digest       TEXT   NOT NULL,
    spec         BYTEA  NOT NULL, -- task.TaskSpec
    uses         BIGINT NOT NULL, -- grows with every reference that is made, so that none is missed by who deletes
    PRIMARY KEY (organization, digest)
);

-- What actions refer to and their data plane has still to send.
CREATE TABLE wanted_specs (
    organization TEXT NOT NULL,
    cluster      TEXT NOT NULL,
    digest       TEXT NOT NULL,
    PRIMARY KEY (organization, cluster, digest)
);
CREATE INDEX wanted_specs_digest ON wanted_specs (organization, digest);

CREATE TABLE tasks (
    organization      TEXT    NOT NULL,
    project           TEXT    NOT NULL,
    domain            TEXT    NOT NULL,
    name              TEXT    NOT NULL,
    version           TEXT    NOT NULL,
    spec_digest       TEXT    NOT NULL,
    task_type         TEXT    NOT NULL,
    short_name        TEXT    NOT NULL,
    environment       TEXT    NOT NULL,
    short_description TEXT    NOT NULL,
    entrypoint        BOOLEAN NOT NULL,
    deployed_by       TEXT    NOT NULL, -- the subject of deployer
    deployer          BYTEA   NOT NULL, -- common.EnrichedIdentity
    deployed_at       BIGINT  NOT NULL,
    latest            BOOLEAN NOT NULL, -- of its name
    PRIMARY KEY (organization, project, domain, name, version)
);
CREATE UNIQUE INDEX tasks_latest ON tasks (organization, project, domain, name) WHERE latest;
CREATE INDEX tasks_latest_deployed ON tasks (organization, project, domain, deployed_at, name) WHERE latest;
CREATE INDEX tasks_latest_organization ON tasks (organization, deployed_at, project, domain, name) WHERE latest;
CREATE INDEX tasks_versions ON tasks (organization, project, domain, name, deployed_at, version);
CREATE INDEX tasks_spec ON tasks (organization, spec_digest);

CREATE TABLE runs (
    organization TEXT    NOT NULL,
    project      TEXT    NOT NULL,
    domain       TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    cluster      TEXT    NOT NULL,
    spec         BYTEA   NOT NULL, -- task.RunSpec
    labels       BYTEA   NOT NULL, -- task.Labels; run_labels has them to look for
    relation     BYTEA   NOT NULL, -- common.Relation
    source       INTEGER NOT NULL, -- workflow.RunSource
    created_by   TEXT    NOT NULL, -- the subject of creator
    creator      BYTEA   NOT NULL, -- common.EnrichedIdentity
    inputs_uri   TEXT    NOT NULL,
    base_uri     TEXT    NOT NULL,
    aborted      BOOLEAN NOT NULL,
    created_at   BIGINT  NOT NULL,
    -- As its root action has them, so that lists need no join to filter and sort.
    phase        INTEGER NOT NULL,
    task_name    TEXT    NOT NULL,
    task_version TEXT    NOT NULL,
    environment  TEXT    NOT NULL,
    short_name   TEXT    NOT NULL,
    error_kind   INTEGER NOT NULL,
    updated_at   BIGINT  NOT NULL,
    ended_at     BIGINT  NOT NULL,
    -- Counters: of this run's changes, and of the organisation's at the last of them.
    revision     BIGINT  NOT NULL,
    change       BIGINT  NOT NULL,
    PRIMARY KEY (organization, project, domain, name)
);
CREATE INDEX runs_created ON runs (organization, project, domain, created_at, name);
CREATE INDEX runs_updated ON runs (organization, project, domain, updated_at, name);
CREATE INDEX runs_phase ON runs (organization, project, domain, phase, created_at, name);
CREATE INDEX runs_organization ON runs (organization, created_at, project, domain, name);
CREATE INDEX runs_change ON runs (organization, change, project, domain, name);
CREATE INDEX runs_task ON runs (organization, project, domain, task_name, created_at, name);
CREATE INDEX runs_task_version ON runs (organization, project, domain, task_name, task_version, created_at, name);
CREATE INDEX runs_ended ON runs (organization, ended_at) WHERE ended_at > 0;
CREATE INDEX runs_live ON runs (organization, cluster) WHERE ended_at = 0;

CREATE TABLE run_labels (
    organization TEXT NOT NULL,
    project      TEXT NOT NULL,
    domain       TEXT NOT NULL,
    run          TEXT NOT NULL,
    label        TEXT NOT NULL,
    value        TEXT NOT NULL,
    PRIMARY KEY (organization, project, domain, run, label)
);
CREATE INDEX run_labels_value ON run_labels (organization, project, domain, label, value, run);

CREATE TABLE actions (
    organization   TEXT    NOT NULL,
    project        TEXT    NOT NULL,
    domain         TEXT    NOT NULL,
    run            TEXT    NOT NULL,
    name           TEXT    NOT NULL,
    parent         TEXT    NOT NULL,
    group_name     TEXT    NOT NULL,
    type           INTEGER NOT NULL, -- workflow.ActionType
    title          TEXT    NOT NULL,
    task_org       TEXT    NOT NULL,
    task_project   TEXT    NOT NULL,
    task_domain    TEXT    NOT NULL,
    task_name      TEXT    NOT NULL,
    task_version   TEXT    NOT NULL,
    task_type      TEXT    NOT NULL,
    short_name     TEXT    NOT NULL,
    environment    TEXT    NOT NULL,
    spec_digest    TEXT    NOT NULL,
    phase          INTEGER NOT NULL, -- common.ActionPhase
    version        BIGINT  NOT NULL, -- as the data plane counts
    created_at     BIGINT  NOT NULL,
    updated_at     BIGINT  NOT NULL,
    ended_at       BIGINT  NOT NULL, -- not 0 exactly when the phase is a last one
    cache_status   INTEGER NOT NULL, -- core.CatalogCacheStatus
    input_uri      TEXT    NOT NULL,
    output_uri     TEXT    NOT NULL,
    error_kind     INTEGER NOT NULL, -- workflow.ErrorInfo.Kind; its message is never here
    error_code     TEXT    NOT NULL,
    abort_reason   TEXT    NOT NULL,
    aborter        BYTEA   NOT NULL, -- common.EnrichedIdentity
    recovered_from BYTEA   NOT NULL, -- common.ActionIdentifier
    attempt_count  BIGINT  NOT NULL,
    attempts       BYTEA   NOT NULL, -- workflow.ActionDetails with attempts alone
    condition      BYTEA   NOT NULL, -- workflow.ConditionAction
    revision       BIGINT  NOT NULL, -- runs.revision at the last change
    PRIMARY KEY (organization, project, domain, run, name)
);
CREATE INDEX actions_created ON actions (organization, project, domain, run, created_at, name);
CREATE INDEX actions_revision ON actions (organization, project, domain, run, revision, name);
CREATE INDEX actions_parent ON actions (organization, project, domain, run, parent, phase);
CREATE INDEX actions_spec ON actions (organization, spec_digest);
CREATE INDEX actions_paused ON actions (organization, project, domain, run) WHERE phase = 9;

CREATE TABLE clusters (
    organization           TEXT    NOT NULL,
    name                   TEXT    NOT NULL,
    draining               BOOLEAN NOT NULL,
    created_at             BIGINT  NOT NULL,
    joined_at              BIGINT  NOT NULL,
    token_id               TEXT    NOT NULL,
    token_hash             BYTEA   NOT NULL,
    token_key              TEXT    NOT NULL, -- of who spent it; empty until then
    token_expires_at       BIGINT  NOT NULL,
    certificate_serial     TEXT    NOT NULL, -- the newest
    certificate_expires_at BIGINT  NOT NULL,
    relay_port             INTEGER NOT NULL,
    proxy_names            TEXT    NOT NULL, -- one a line
    handovers              BIGINT  NOT NULL, -- the newest id of outbox
    PRIMARY KEY (organization, name)
);
CREATE INDEX clusters_created ON clusters (organization, created_at, name);
CREATE UNIQUE INDEX clusters_token ON clusters (token_id) WHERE token_id <> '';
CREATE UNIQUE INDEX clusters_relay_port ON clusters (relay_port) WHERE relay_port > 0;

-- Apart from clusters, so that neither a batch of states nor a heartbeat waits for
-- a hand-over, or makes one wait.
CREATE TABLE cluster_positions (
    organization TEXT   NOT NULL,
    cluster      TEXT   NOT NULL,
    epoch        TEXT   NOT NULL, -- in which positions are counted
    position     BIGINT NOT NULL, -- of the states that have been recorded
    PRIMARY KEY (organization, cluster)
);

CREATE TABLE cluster_reports (
    organization TEXT   NOT NULL,
    cluster      TEXT   NOT NULL,
    received_at  BIGINT NOT NULL,
    report       BYTEA  NOT NULL, -- tunnel.HeartbeatRequest
    PRIMARY KEY (organization, cluster)
);

-- They outlive their cluster until they expire, revoked.
CREATE TABLE certificates (
    organization TEXT    NOT NULL,
    cluster      TEXT    NOT NULL,
    serial       TEXT    NOT NULL,
    expires_at   BIGINT  NOT NULL,
    revoked      BOOLEAN NOT NULL,
    PRIMARY KEY (organization, cluster, serial)
);
CREATE INDEX certificates_expires ON certificates (organization, expires_at);

CREATE TABLE outbox (
    organization TEXT    NOT NULL,
    cluster      TEXT    NOT NULL,
    id           BIGINT  NOT NULL,
    kind         INTEGER NOT NULL, -- 1: actions.EnqueueRequest, 2: actions.AbortRequest
    project      TEXT    NOT NULL,
    domain       TEXT    NOT NULL,
    run          TEXT    NOT NULL,
    payload      BYTEA   NOT NULL,
    created_at   BIGINT  NOT NULL,
    tries        BIGINT  NOT NULL,
    next_try     BIGINT  NOT NULL,
    PRIMARY KEY (organization, cluster, id)
);
CREATE INDEX outbox_run ON outbox (organization, cluster, project, domain, run, id);
CREATE INDEX outbox_next_try ON outbox (organization, cluster, next_try);

-- +goose Down

DROP TABLE outbox;
DROP TABLE certificates;
DROP TABLE cluster_reports;
DROP TABLE cluster_positions;
DROP TABLE clusters;
DROP TABLE actions;
DROP TABLE run_labels;
DROP TABLE runs;
DROP TABLE tasks;
DROP TABLE wanted_specs;
DROP TABLE task_specs;
DROP TABLE projects;
DROP TABLE organizations;
