"""How fast a sitemap of 50,000 URLs is read, and how long a step of it keeps the loop.

python -m tests.benchmarks.sitemaps
"""

from __future__ import annotations

import gzip
import statistics
import time

from scrapekit.sitemaps import Sitemap

URL = "https://shop.test/sitemap.xml"
ENTRY = (
    "<url><loc>https://shop.test/products/{n:06d}</loc><lastmod>2026-01-01</lastmod>"
    "<changefreq>daily</changefreq><priority>0.5</priority><image:image><image:loc>"
    "https://shop.test/images/{n:06d}.jpg</image:loc></image:image></url>\n"
)


def main() -> None:
    body = f"<urlset>{''.join(ENTRY.format(n=n) for n in range(50_000))}</urlset>".encode()
    for name, data in (("plain", body), ("gzip", gzip.compress(body))):
        sitemap, steps = Sitemap(data, URL), []
        last = time.perf_counter()
        for _ in sitemap:
            now = time.perf_counter()
            steps.append(now - last)
            last = now
        print(
            f"{name:6} {len(body) / 1e6:.1f} MB, {sitemap.count} URLs: "
            f"{len(body) / 1e6 / sum(steps):.0f} MB/s, {sitemap.count / sum(steps):,.0f} URLs/s, "
            f"steps of {statistics.median(steps) * 1e3:.1f} ms, longest {max(steps) * 1e3:.1f} ms"
        )


if __name__ == "__main__":
    main()
