"""What a step does, without Dagster: called by the graph, the commands and the tests alike."""
