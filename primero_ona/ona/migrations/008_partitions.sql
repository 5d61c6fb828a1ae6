-- a row for each stored partition, which whoever writes the partition's files locks meanwhile
CREATE TABLE IF NOT EXISTS primero_sync.partitions (partition text PRIMARY KEY);
