VERSION = 1  # of how rows become prompts and answers; raise it with any change of that
