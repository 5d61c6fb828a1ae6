-- Children who would count in 4.8, variant `event`, but for a date: placed into family or community without `care_date`, and no
-- other event of theirs has a date.
SELECT child
  FROM children
 WHERE placed_in_family AND care_date IS NULL AND date_of_reintegration IS NULL
   AND child NOT IN (SELECT child FROM child_services WHERE into_family AND service_date IS NOT NULL)
