-- Indicator 4.11a, variant `open`: children whose case was open at some time of the period. Quarters and years only
--
-- A child counts in a period when
--   `registration_date` lies before its end,
--   and `date_closure` is null or not before its first day; a closed case without `date_closure` does not count.
-- Age: on the first day of the period, or on the day of registration where that is later: `age_at_registration` and the
-- completed years since, which may be one too low, since the birthday is not known; else the present one.
SELECT child, period_id, COALESCE(age_at_registration + GREATEST(0, (first_month - registration_month) / 12), age) AS age
  FROM children
  JOIN quarters_and_years ON registration_date < next_first_day
 WHERE date_closure >= first_day
    OR (date_closure IS NULL AND case_status IS DISTINCT FROM 'closed')
