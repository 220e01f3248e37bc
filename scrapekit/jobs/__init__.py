"""Jobs: crawls with a folder, which survive being killed.

`job` is the frontier of such a crawl, `outputs` its exports; `state`, `again` and `fresh` are for
those who look at a job, or change it, while it doesn't run.
"""

from scrapekit.frontier.records import Lost
from scrapekit.jobs.again import forget_lost, retry
from scrapekit.jobs.fresh import Waste, start_anew, waste
from scrapekit.jobs.job import Job
from scrapekit.jobs.outputs import JobExport, job_exports
from scrapekit.jobs.since import Since
from scrapekit.jobs.state import (
    FailedRequest,
    State,
    failed_requests,
    items_of,
    lost_items,
    state,
)

__all__ = [
    "FailedRequest",
    "Job",
    "JobExport",
    "Lost",
    "Since",
    "State",
    "Waste",
    "failed_requests",
    "forget_lost",
    "items_of",
    "job_exports",
    "lost_items",
    "retry",
    "start_anew",
    "state",
    "waste",
]
