-- Made of views.sql by `python -m jobs.analysis.dialects`; a test compares it with that.

CREATE OR REPLACE VIEW public.issues_by_source_and_day AS
WITH dated AS (
  SELECT
    image_id,
    source,
    CAST(modified_at AT TIME ZONE 'UTC' AS DATE) AS day
  FROM imagesieve.images
), totals AS (
  SELECT
    source,
    COALESCE(CAST(day AS VARCHAR(MAX)), '') AS day_key,
    COUNT(*) AS of_images
  FROM dated
  GROUP BY
    source,
    COALESCE(CAST(day AS VARCHAR(MAX)), '')
), found AS (
  SELECT
    d.source,
    d.day,
    i.issue,
    COUNT(*) AS images,
    AVG(i.score) AS mean_score
  FROM dated AS d
  JOIN imagesieve.issues AS i
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
  CAST(f.images AS DOUBLE PRECISION) / t.of_images AS share,
  f.mean_score
FROM found AS f
JOIN totals AS t
  ON t.source = f.source AND t.day_key = COALESCE(CAST(f.day AS VARCHAR(MAX)), '')
WITH NO SCHEMA BINDING;

CREATE OR REPLACE VIEW public.cost_by_run AS
WITH told AS (
  SELECT
    run_id,
    job,
    version,
    started_at,
    ended_at,
    seconds,
    status,
    CAST(NULLIF(JSON_EXTRACT_PATH_TEXT(counts, 'in'), '') AS BIGINT) AS came_in,
    CAST(NULLIF(JSON_EXTRACT_PATH_TEXT(counts, 'read'), '') AS BIGINT) AS images_read,
    CAST(NULLIF(
      NULLIF(JSON_EXTRACT_PATH_TEXT(config, 'all', 'metrics', 'usd_per_hour'), ''),
      'null'
    ) AS DOUBLE PRECISION) AS usd_per_hour
  FROM imagesieve.runs
)
SELECT
  run_id,
  MAX(version) AS version,
  CAST(MIN(started_at) AT TIME ZONE 'UTC' AS TIMESTAMP) AS started_at,
  CAST(MAX(ended_at) AT TIME ZONE 'UTC' AS TIMESTAMP) AS ended_at,
  COUNT(*) AS stages,
  SUM(CASE WHEN status = 'failed' THEN 1 ELSE 0 END) AS failed_stages,
  SUM(seconds) AS seconds,
  MAX(CASE WHEN job IN ('catalog', 'embed') THEN came_in END) AS images,
  MAX(CASE WHEN job = 'embed' THEN images_read END) AS images_read,
  CAST(SUM(seconds * usd_per_hour) AS DOUBLE PRECISION) / 3600 AS usd
FROM told
GROUP BY
  run_id
WITH NO SCHEMA BINDING;

CREATE OR REPLACE VIEW public.duplicates_by_source AS
WITH totals AS (
  SELECT
    source,
    COUNT(*) AS of_images,
    SUM(size_bytes) AS of_bytes
  FROM imagesieve.images
  GROUP BY
    source
), found AS (
  SELECT
    i.source,
    d.kind,
    COUNT(*) AS images,
    SUM(i.size_bytes) AS bytes_saved
  FROM imagesieve.duplicates AS d
  JOIN imagesieve.images AS i
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
  CAST(f.bytes_saved AS DOUBLE PRECISION) / NULLIF(t.of_bytes, 0) AS share_of_bytes
FROM found AS f
JOIN totals AS t
  ON t.source = f.source
WITH NO SCHEMA BINDING;

CREATE OR REPLACE VIEW public.agreement_with_reviews AS
WITH undone AS (
  SELECT DISTINCT
    undoes AS batch_id
  FROM imagesieve.reviews
  WHERE
    decision = 'undo' AND NOT undoes IS NULL
), counted AS (
  SELECT
    r.image_id,
    r.batch_id,
    r.decision,
    ROW_NUMBER() OVER (
      PARTITION BY r.image_id
      ORDER BY r.at DESC NULLS LAST, r.review_id DESC NULLS LAST
    ) AS place
  FROM imagesieve.reviews AS r
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
FROM imagesieve.issues AS i
JOIN judged AS j
  ON j.image_id = i.image_id
GROUP BY
  i.issue
WITH NO SCHEMA BINDING;

CREATE OR REPLACE VIEW public.trends_by_week AS
WITH dated AS (
  SELECT
    image_id,
    size_bytes,
    CAST(DATE_TRUNC('WEEK', modified_at AT TIME ZONE 'UTC') AS DATE) AS week
  FROM imagesieve.images
), flagged AS (
  SELECT
    image_id,
    MAX(CASE WHEN suggestion = 'remove' THEN 1 ELSE 0 END) AS removable
  FROM imagesieve.issues
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
LEFT JOIN imagesieve.duplicates AS c
  ON c.image_id = d.image_id AND NOT c.is_keeper
LEFT JOIN imagesieve.scores AS s
  ON s.image_id = d.image_id
GROUP BY
  d.week
WITH NO SCHEMA BINDING;
