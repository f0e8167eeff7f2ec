VERSION = 1  # of how problems are asked and graded; raise it with any change of that
