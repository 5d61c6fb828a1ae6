"""The assets of the graph, thin: a few lines each over the rooms that do the work. One module for each group in the UI."""
