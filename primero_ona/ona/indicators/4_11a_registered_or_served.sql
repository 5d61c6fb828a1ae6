-- Indicator 4.11a, variant `registered_or_served`: children who were registered or received a service
--
-- A child counts in a period when `registration_date` lies in it, or the day of a service (`service_date`).
-- Age: on that day, else the present one.
SELECT child, registration_date AS day, COALESCE(age_at_registration, age) AS age FROM children
UNION ALL
SELECT child, service_date, COALESCE(age_at_service, age) FROM child_services
