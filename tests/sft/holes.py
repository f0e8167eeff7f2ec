"""The jobs of a sandbox, were there holes in the interpreter: "hang" and "crash" do so, in the worker."""

import ctypes

from eval.programs import sandbox
from eval.programs.sandbox import Job
from sft import trace


def judging() -> Job:
    return holed(sandbox.judging())


def tracing(vocabulary: str) -> Job:
    return holed(trace.tracing(vocabulary))


def holed(job: Job) -> Job:
    def work(code: str) -> object:
        while code == "hang":
            pass
        if code == "crash":
            ctypes.string_at(0)
        return job.work(code)

    return Job(work, job.honest)
