"""The same crawl with other frameworks, each as its documentation recommends for speed.

These programs run in environments of their own (see `environments`), without scrapekit; all stay
on the site, follow every link, write an item a page, make 32 requests at a time without delays,
don't ask for robots.txt, and log nothing but errors.
"""
