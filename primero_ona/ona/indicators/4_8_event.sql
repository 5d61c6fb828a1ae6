-- Indicator 4.8, variant `event`: children provided with family reunification, kinship or community-based care
--
-- A child counts in a period when one of these days lies in it:
--   the start of a placement (`care_date`), where `placement_type` holds one of the placements of lists.yaml:
--     biological family (គ្រួសារបង្កើត), kinship care (គ្រួសារសាច់ញាតិ), foster care (គ្រួសារធម៌);
--   the day of reintegration (`date_of_reintegration`);
--   the day of a service (`service_date`) with one of the subtypes of lists.yaml.
-- Age: on that day, else the present one.
SELECT child, care_date AS day, COALESCE(age_at_placement, age) AS age FROM children WHERE placed_in_family
UNION ALL
SELECT child, date_of_reintegration, COALESCE(age_at_reintegration, age) FROM children
UNION ALL
SELECT child, service_date, COALESCE(age_at_service, age) FROM child_services WHERE into_family
