"""Crawls that are killed, continued and compared with one that wasn't."""
