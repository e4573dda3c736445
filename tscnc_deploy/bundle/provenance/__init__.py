"""Where a bundle comes from: the code, packages and machine of the build, and the script that repeats it."""
