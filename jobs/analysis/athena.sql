-- Made of views.sql by `python -m jobs.analysis.dialects`; a test compares it with that.

CREATE OR REPLACE VIEW issues_by_source_and_day AS
WITH dated AS (
  SELECT
    image_id,
    source,
    CAST(AT_TIMEZONE(modified_at, 'UTC') AS DATE) AS day
  FROM images
), totals AS (
  SELECT
    source,
    COALESCE(CAST(day AS VARCHAR), '') AS day_key,
    COUNT(*) AS of_images
  FROM dated
  GROUP BY
    source,
    COALESCE(CAST(day AS VARCHAR), '')
), found AS (
  SELECT
    d.source,
    d.day,
    i.issue,
    COUNT(*) AS images,
    AVG(i.score) AS mean_score
  FROM dated AS d
  JOIN issues AS i
    ON i.image_id = d.image_id
  GROUP BY
    d.source,
    d.day,
    i.issue
)
SELECT
  f.source,
  f.day,
  f.issue,
  f.images,
  t.of_images,
  CAST(f.images AS DOUBLE) / t.of_images AS share,
  f.mean_score
FROM found AS f
JOIN totals AS t
  ON t.source = f.source AND t.day_key = COALESCE(CAST(f.day AS VARCHAR), '');

CREATE OR REPLACE VIEW cost_by_run AS
WITH told AS (
  SELECT
    run_id,
    job,
    version,
    started_at,
    ended_at,
    seconds,
    status,
    CAST(NULLIF(JSON_EXTRACT_SCALAR(counts, '$.in'), '') AS BIGINT) AS came_in,
    CAST(NULLIF(JSON_EXTRACT_SCALAR(counts, '$.read'), '') AS BIGINT) AS images_read,
    CAST(NULLIF(NULLIF(JSON_EXTRACT_SCALAR(config, '$.all.metrics.usd_per_hour'), ''), 'null') AS DOUBLE) AS usd_per_hour
  FROM runs
)
SELECT
  run_id,
  MAX(version) AS version,
  CAST(AT_TIMEZONE(MIN(started_at), 'UTC') AS TIMESTAMP) AS started_at,
  CAST(AT_TIMEZONE(MAX(ended_at), 'UTC') AS TIMESTAMP) AS ended_at,
  COUNT(*) AS stages,
  SUM(CASE WHEN status = 'failed' THEN 1 ELSE 0 END) AS failed_stages,
  SUM(seconds) AS seconds,
  MAX(CASE WHEN job IN ('catalog', 'embed') THEN came_in END) AS images,
  MAX(CASE WHEN job = 'embed' THEN images_read END) AS images_read,
  CAST(SUM(seconds * usd_per_hour) AS DOUBLE) / 3600 AS usd
FROM told
GROUP BY
  run_id;

CREATE OR REPLACE VIEW duplicates_by_source AS
WITH totals AS (
  SELECT
    source,
    COUNT(*) AS of_images,
    SUM(size_bytes) AS of_bytes
  FROM images
  GROUP BY
    source
), found AS (
  SELECT
    i.source,
    d.kind,
    COUNT(*) AS images,
    SUM(i.size_bytes) AS bytes_saved
  FROM duplicates AS d
  JOIN images AS i
    ON i.image_id = d.image_id
  WHERE
    NOT d.is_keeper
  GROUP BY
    i.source,
    d.kind
)
SELECT
  f.source,
  f.kind,
  f.images,
  t.of_images,
  f.bytes_saved,
  t.of_bytes,
  CAST(f.bytes_saved AS DOUBLE) / NULLIF(t.of_bytes, 0) AS share_of_bytes
FROM found AS f
JOIN totals AS t
  ON t.source = f.source;

CREATE OR REPLACE VIEW agreement_with_reviews AS
WITH undone AS (
  SELECT DISTINCT
    undoes AS batch_id
  FROM reviews
  WHERE
    decision = 'undo' AND NOT undoes IS NULL
), counted AS (
  SELECT
    r.image_id,
    r.batch_id,
    r.decision,
    ROW_NUMBER() OVER (PARTITION BY r.image_id ORDER BY r.at DESC, r.review_id DESC) AS place
  FROM reviews AS r
  LEFT JOIN undone AS u
    ON u.batch_id = r.batch_id
  WHERE
    r.decision IN ('keep', 'remove', 'relabel', 'skip') AND u.batch_id IS NULL
), judged AS (
  SELECT
    image_id,
    decision
  FROM counted
  WHERE
    place = 1 AND decision <> 'skip' AND batch_id NOT LIKE 'rule-%'
)
SELECT
  i.issue,
  COUNT(*) AS judged,
  SUM(CASE WHEN j.decision <> 'keep' THEN 1 ELSE 0 END) AS found_right,
  SUM(CASE WHEN j.decision = 'remove' THEN 1 ELSE 0 END) AS removed,
  SUM(CASE WHEN j.decision = 'relabel' THEN 1 ELSE 0 END) AS relabelled,
  SUM(CASE WHEN j.decision = i.suggestion THEN 1 ELSE 0 END) AS as_suggested,
  AVG(CASE WHEN j.decision <> 'keep' THEN 1.0 ELSE 0.0 END) AS precision_of_issue
FROM issues AS i
JOIN judged AS j
  ON j.image_id = i.image_id
GROUP BY
  i.issue;

CREATE OR REPLACE VIEW trends_by_week AS
WITH dated AS (
  SELECT
    image_id,
    size_bytes,
    CAST(DATE_TRUNC('WEEK', AT_TIMEZONE(modified_at, 'UTC')) AS DATE) AS week
  FROM images
), flagged AS (
  SELECT
    image_id,
    MAX(CASE WHEN suggestion = 'remove' THEN 1 ELSE 0 END) AS removable
  FROM issues
  GROUP BY
    image_id
)
SELECT
  d.week,
  COUNT(*) AS images,
  SUM(d.size_bytes) AS bytes,
  COUNT(f.image_id) AS with_issues,
  SUM(COALESCE(f.removable, 0)) AS removable,
  SUM(CASE WHEN NOT c.image_id IS NULL THEN 1 ELSE 0 END) AS duplicates,
  AVG(s.quality_score) AS mean_quality
FROM dated AS d
LEFT JOIN flagged AS f
  ON f.image_id = d.image_id
LEFT JOIN duplicates AS c
  ON c.image_id = d.image_id AND NOT c.is_keeper
LEFT JOIN scores AS s
  ON s.image_id = d.image_id
GROUP BY
  d.week;
