"""Where a bundle comes from: the code, the packages and the machine that built it, and how to build it again."""
