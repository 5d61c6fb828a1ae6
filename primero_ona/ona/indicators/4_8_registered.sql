-- Indicator 4.8, variant `registered`: the same by the day of registration, as far as the columns of the old tables tell
--
-- A child counts in a period when `registration_date` lies in it, and
--   `placement_type` holds one of the placements of lists.yaml,
--   or is null while `type_of_case` holds `children undergoing reintegration` (ករណីកុមារសមាហរណកម្ម).
-- Age: on the day of registration, else the present one.
SELECT child, registration_date AS day, COALESCE(age_at_registration, age) AS age
  FROM children
 WHERE placed_in_family
    OR (placement_type IS NULL AND 'children undergoing reintegration' = ANY (string_to_array(type_of_case, ', ')))
