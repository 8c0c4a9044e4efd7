-- r2-exporter's history, version 1. Times are Unix seconds, durations are seconds, true is 1.

CREATE TABLE r2_health_checks (
    id INTEGER PRIMARY KEY,
    checked_at REAL NOT NULL,          -- when the result was known
    target TEXT NOT NULL,
    operation TEXT NOT NULL,           -- put, get, head, list, delete
    success INTEGER NOT NULL,
    duration_seconds REAL NOT NULL,
    status INTEGER,                    -- the HTTP status, where there was an answer
    request_id TEXT,
    reason TEXT,                       -- why it failed, as in r2_probe_errors_total
    s3_code TEXT,
    message TEXT,
    hint TEXT,                         -- what to look at
    resolve_seconds REAL,              -- the phases; a phase that did not happen is NULL
    connect_seconds REAL,
    tls_seconds REAL,
    processing_seconds REAL,
    transfer_seconds REAL
);
CREATE INDEX r2_health_checks_by_time ON r2_health_checks (checked_at, operation, success);
CREATE INDEX r2_health_checks_by_target ON r2_health_checks (target, checked_at, operation, success);
CREATE INDEX r2_health_checks_failed ON r2_health_checks (checked_at, target, operation) WHERE success = 0;

-- Sums by hour and by day (UTC). `histogram` counts durations by bucket, as a Prometheus native histogram of
-- schema 4 does: bucket n holds those from above 2^((n-1)/16) to 2^(n/16) seconds. It is a JSON array: the
-- number of its first bucket, then the count of that one, of the next, and so on.
CREATE TABLE r2_operation_metrics (
    period TEXT NOT NULL CHECK (period IN ('hour', 'day')),
    started_at INTEGER NOT NULL,
    target TEXT NOT NULL,
    operation TEXT NOT NULL,
    checks INTEGER NOT NULL,           -- successes and failures
    failures INTEGER NOT NULL,
    skipped INTEGER NOT NULL,          -- not sent, because the circuit breaker was open
    duration_sum_seconds REAL NOT NULL,
    duration_max_seconds REAL NOT NULL,
    reasons TEXT NOT NULL,             -- {"timeout": 2}
    histogram TEXT NOT NULL,           -- [-80, 117, 0, 3]
    PRIMARY KEY (period, started_at, target, operation)
) WITHOUT ROWID;
CREATE INDEX r2_operation_metrics_by_target
    ON r2_operation_metrics (period, target, operation, started_at, checks, failures, skipped);

CREATE TABLE circuit_breaker_events (
    id INTEGER PRIMARY KEY,
    occurred_at REAL NOT NULL,
    target TEXT NOT NULL,
    from_state TEXT NOT NULL,
    to_state TEXT NOT NULL,
    cause TEXT NOT NULL,
    operation TEXT,                    -- the one that opened it last
    calls INTEGER NOT NULL,            -- what the monitoring window held
    failures INTEGER NOT NULL,
    slow_calls INTEGER NOT NULL,
    recovery_seconds REAL              -- how long it stays open
);
CREATE INDEX circuit_breaker_events_by_target ON circuit_breaker_events (target, id);
CREATE INDEX circuit_breaker_events_by_time ON circuit_breaker_events (occurred_at);

CREATE TABLE service_alerts (
    id INTEGER PRIMARY KEY,
    target TEXT NOT NULL,              -- '' for one that is of no target
    type TEXT NOT NULL,
    severity TEXT NOT NULL CHECK (severity IN ('LOW', 'MEDIUM', 'HIGH', 'CRITICAL')),
    message TEXT NOT NULL,
    source TEXT NOT NULL DEFAULT 'exporter' CHECK (source IN ('exporter', 'alertmanager')),  -- who raised it
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    notified_at REAL,                  -- when Alertmanager told somebody of it, and when of its end
    notified_by TEXT,                  -- by which of its receivers
    resolution_notified_at REAL,
    resolved_at REAL,
    resolved_by TEXT,                  -- who, or NULL for its condition's end
    notes TEXT,
    silence_id TEXT,                   -- the silence in Alertmanager that was set when it was resolved
    silenced_until REAL,
    condition_ended_at REAL            -- NULL while what raised it lasts, even once it is resolved by hand
);
CREATE UNIQUE INDEX service_alerts_open ON service_alerts (target, type) WHERE resolved_at IS NULL;
CREATE INDEX service_alerts_open_by_time ON service_alerts (created_at) WHERE resolved_at IS NULL;
CREATE INDEX service_alerts_lasting ON service_alerts (target, type)
    WHERE condition_ended_at IS NULL AND source = 'exporter';
CREATE INDEX service_alerts_by_time ON service_alerts (created_at);
CREATE INDEX service_alerts_by_end ON service_alerts (resolved_at);
CREATE INDEX service_alerts_by_target ON service_alerts (target, type, id);

-- One row a setting; `target` is '' for all targets. A NULL value leaves it to exporter.yaml.
CREATE TABLE health_check_config (
    target TEXT NOT NULL,
    setting TEXT NOT NULL,
    value TEXT,                        -- JSON
    default_value TEXT NOT NULL,       -- JSON
    updated_at REAL,
    updated_by TEXT,
    PRIMARY KEY (target, setting)
) WITHOUT ROWID;
INSERT INTO health_check_config (target, setting, default_value) VALUES
    ('', 'enabled', 'true'),
    ('', 'checkInterval', '30000'),
    ('', 'timeout', '5000'),
    ('', 'testOperations', '["put", "get", "delete"]'),
    ('', 'failureThreshold', '3'),
    ('', 'recoveryTimeout', '60000'),
    ('', 'monitoringWindow', '300000'),
    ('', 'slowCallThreshold', '2000'),
    ('', 'slowResponseThreshold', '2000'),
    ('', 'errorRateThreshold', '0.2'),
    ('', 'alertOnFailure', 'true'),
    ('', 'alertOnRecovery', 'true');

-- Who changed what; the changes of one request have one `change`.
CREATE TABLE health_check_config_changes (
    id INTEGER PRIMARY KEY,
    change INTEGER NOT NULL,
    changed_at REAL NOT NULL,
    changed_by TEXT NOT NULL,
    target TEXT NOT NULL,
    setting TEXT NOT NULL,
    old_value TEXT,
    new_value TEXT
);
CREATE INDEX health_check_config_changes_by_change ON health_check_config_changes (change);
CREATE INDEX health_check_config_changes_by_time ON health_check_config_changes (changed_at);

-- The last result of each operation of each target.
CREATE VIEW latest_health_checks AS
    SELECT checks.*
    FROM (SELECT target, operation, max(started_at) AS day FROM r2_operation_metrics
          WHERE period = 'day' AND checks > 0 GROUP BY target, operation) AS known
    JOIN r2_health_checks AS checks ON checks.id = (
        SELECT id FROM r2_health_checks
        WHERE target = known.target AND operation = known.operation AND checked_at >= known.day
        ORDER BY checked_at DESC, id DESC LIMIT 1);

CREATE VIEW error_rate_per_hour AS
    SELECT datetime(started_at, 'unixepoch') AS hour, target, operation, checks, failures,
           CAST(failures AS REAL) / checks AS error_rate, reasons
    FROM r2_operation_metrics WHERE period = 'hour' AND checks > 0
    ORDER BY started_at DESC, target, operation;

-- The slowest result of each hour, slowest first.
CREATE VIEW slowest_per_hour AS
    SELECT datetime(started_at, 'unixepoch') AS hour, target, operation, duration_max_seconds,
           duration_sum_seconds / checks AS mean_seconds
    FROM r2_operation_metrics WHERE period = 'hour' AND checks > 0
    ORDER BY duration_max_seconds DESC;

CREATE VIEW open_alerts AS
    SELECT id, datetime(created_at, 'unixepoch') AS since, target, type, severity, message,
           datetime(notified_at, 'unixepoch') AS notified
    FROM service_alerts WHERE resolved_at IS NULL ORDER BY created_at DESC;
