-- Children who would count in 4.11a, variant `served`, but for a date: they have services, none with a day. Services that OSCaR
-- sends have no day.
SELECT child FROM child_services GROUP BY child HAVING count(service_date) = 0
