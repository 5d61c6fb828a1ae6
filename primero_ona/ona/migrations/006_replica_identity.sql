-- tables without a primary key take no changes once a publication holds them, and `FOR ALL TABLES` holds all
ALTER TABLE primero_sync.quarantine REPLICA IDENTITY FULL;
ALTER TABLE primero_sync.unmapped REPLICA IDENTITY FULL;
ALTER TABLE primero_sync.place_names REPLICA IDENTITY FULL;
