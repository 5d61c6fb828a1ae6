-- The dimensions of every figure, and their values. What is the same for many children is a profile with a number: where they
-- live with their sex and age group, the care they are in, their protection concerns, a type of service.
SELECT place + age_band AS profile, dimension, value
  FROM places
 CROSS JOIN (VALUES (0, '0-4'), (1, '5-9'), (2, '10-14'), (3, '15-17'), (4, 'unknown')) AS ages (age_band, age_group)
 CROSS JOIN LATERAL (VALUES
    ('all', 'all'),
    ('sex', sex),
    ('age_group', age_group),
    ('province', province_current),
    ('district', province_current || ' / ' || district_current),
    ('sex_age', sex || ' × ' || age_group),
    ('province_sex', province_current || ' × ' || sex),
    ('coverage', CASE age_group WHEN 'unknown' THEN 'age unknown' END)) AS part (dimension, value)
 WHERE value IS NOT NULL
UNION ALL
SELECT care, dimension, value
  FROM cares
 CROSS JOIN LATERAL (VALUES
    ('placement_type', placement_type),
    ('type_of_case', type_of_case),
    ('case_source', case_source),
    ('consent_status', consent_status),
    ('disability', CASE disabled WHEN '(empty)' THEN 'not recorded' ELSE 'recorded' END),
    ('disability_type', disabled)) AS part (dimension, value)
UNION ALL
-- A child may count in several of these two.
SELECT DISTINCT concerns, 'protection_concern', concern
  FROM concern_sets, unnest(string_to_array(protection_concerns, ', ')) AS concern
UNION ALL
SELECT DISTINCT service_label, 'service_type', service_type FROM type_labels
