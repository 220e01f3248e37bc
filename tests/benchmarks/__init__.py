"""What a crawl costs, side by side with the loop one would write by hand.

Each module is a program: `python -m tests.benchmarks.compare` runs the others in turn,
`python -m tests.benchmarks.same_pages URL` compares what is found with what wget2 finds.
"""
