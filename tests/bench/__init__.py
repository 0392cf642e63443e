"""Speed, measured beside what a user would pick instead; see ``python -m tests.bench --help``."""
