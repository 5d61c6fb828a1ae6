-- Indicator 4.11a, variant `served`: children receiving case management support, by the services given
--
-- A child counts in a period when the day of a service (`service_date`) lies in it.
-- Age: on that day, else the present one.
SELECT child, service_date AS day, COALESCE(age_at_service, age) AS age FROM child_services
