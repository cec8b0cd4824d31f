"""Programs that drive the core with what somebody has already, each of them on one page.

They import the package and one library, nothing of each other's, so that any of them can be copied.
"""
