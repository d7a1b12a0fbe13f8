"""Runs what is not recorded yet, here or on an executor, with a bar over all of it."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import math
import multiprocessing
import os
import signal
import threading
import time

from examples import command_line
from examples.paper import sizes
from examples.paper.settings import ARMS

# Epochs from which a run is one.
LONG = 50


class WorkerError(Exception):
    """A process that trains ended by itself."""


def run_all(pending, records, jobs=1, executor=None):
    """Trains every run and records it.

    Args:
        pending: List of `Settings`.
        records: `Records`, open for writing. This process alone writes.
        jobs: Int, number of processes.
        executor: A `concurrent.futures.Executor` in place of processes of this machine, such as
            `dask.distributed.Client(...).get_executor()`. Its machines need this repository and the
            data sets. Defaults to `None`.
    """
    queue = sorted(pending, key=_order)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(_Progress(queue))
        if executor is None and (jobs == 1 or len(queue) == 1):
            results = _in_this_process(queue, progress.epoch_done)
        else:
            if executor is None:
                executor = stack.enter_context(processes(min(jobs, len(queue))))
            results = _on(executor, queue)
        for settings, result in results:
            records.append({"settings": settings.to_dict(), **result})
            progress.run_done(settings)


def _order(settings):
    """Runs of one program follow each other, so that it is compiled once; plain training is first.

    Long ones go seed by seed: a study that is stopped has whole seeds then, and compiling is little
    beside them.
    """
    first = settings.seed if settings.all_epochs >= LONG else 0
    arm = list(ARMS).index(settings.arm)
    return first, arm, repr(settings.program), settings.seed, settings.learning_rate


def estimate(pending):
    """Seconds that runs will take on this machine in one process, from a short measurement."""
    command_line.import_tensorflow()
    from examples.paper import training

    epochs = {s.program: 0 for s in pending}
    for settings in pending:
        epochs[settings.program] += settings.all_epochs
    # The smallest, a middle and the largest stand for all.
    by_cost = sorted(epochs, key=sizes.multiplications)
    measured = {by_cost[0], by_cost[len(by_cost) // 2], by_cost[-1]}
    rates = []
    for program in measured:
        short = dataclasses.replace(
            program, train_examples=32 * program.batch_size, test_examples=200, epochs=1, tasks=0
        )
        trainer = training.trainer_for(short)
        images = len(trainer.train[0])
        seconds = []
        for epoch in range(3):
            start = time.perf_counter()
            trainer.train_epoch(training.order_of(short, epoch, images))
            seconds.append(time.perf_counter() - start)
        rates.append(min(seconds) / images / sizes.multiplications_per_image(program))
    total = sum(number * sizes.multiplications(program) for program, number in epochs.items())
    return total * sum(rates) / len(rates)


def _in_this_process(queue, epoch_done):
    command_line.import_tensorflow()
    from examples.paper import training

    for settings in queue:
        yield settings, training.run(settings, functools.partial(epoch_done, settings))


def _on(executor, queue):
    """Yields pairs of settings and result as they are done."""
    futures = {executor.submit(train, settings): settings for settings in queue}
    try:
        for future in concurrent.futures.as_completed(futures):
            yield futures[future], future.result()
    except concurrent.futures.BrokenExecutor:
        raise WorkerError(
            "a process of the study ended by itself, perhaps for want of memory; what is recorded "
            "is kept, run the command again to go on"
        ) from None
    finally:
        for future in futures:
            future.cancel()


def train(settings):
    """Trains a run in whatever process an executor has chosen."""
    command_line.import_tensorflow()
    from examples.paper import training

    return training.run(settings)


@contextlib.contextmanager
def processes(jobs):
    """An executor of processes on this machine, which end with this one whatever ends it."""
    before = set(multiprocessing.active_children())
    executor = concurrent.futures.ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_process,
        initargs=(max(1, (os.cpu_count() or 1) // jobs),),
    )
    try:
        yield executor
    finally:
        # A run may take hours: it is not waited for.
        workers = set(multiprocessing.active_children()) - before
        threading.excepthook = _without_cancelled_futures
        executor.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()


def _without_cancelled_futures(arguments, show=threading.excepthook):
    # A thread of the executor fails on a cancelled future where its processes end, on Python 3.11.
    if not issubclass(arguments.exc_type, concurrent.futures.InvalidStateError):
        show(arguments)


def _start_process(threads):
    # Ctrl-C reaches all processes; the one that hands out the work ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)


def _end_with_parent():
    """Ends this process when the one that started it is gone, killed perhaps."""
    multiprocessing.parent_process().join()
    os._exit(1)


class _Progress:
    """A bar over the work of all runs, by what each costs, with an estimate of the time left."""

    def __init__(self, queue):
        self.runs = len(queue)
        self.total = sum(sizes.multiplications(s) * s.all_epochs for s in queue)
        self.finished = 0
        self.work = self.shown = 0

    def __enter__(self):
        import tqdm

        self.bar = tqdm.tqdm(
            total=1.0,
            bar_format="{percentage:3.0f} %|{bar:30}| {desc}, {elapsed} gone, {remaining} left",
            desc=f"0/{self.runs} runs",
        )
        return self

    def __exit__(self, *error):
        self.bar.close()

    def epoch_done(self, settings):
        self._show(self.shown + sizes.multiplications(settings))

    def run_done(self, settings):
        # Epochs are not heard of from other processes, and a run that diverged leaves some out.
        self.work += sizes.multiplications(settings) * settings.all_epochs
        self._show(self.work)
        self.finished += 1
        self.bar.set_description_str(f"{self.finished}/{self.runs} runs")

    def _show(self, work):
        # Rounding must not carry the bar beyond its end.
        work = min(work, self.total)
        self.bar.update(max(0.0, work - self.shown) / self.total)
        self.shown = max(self.shown, work)


def duration(seconds):
    """A time for people: `"about 3 hours"`."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 1.5 * size:
            return f"about {math.ceil(seconds / size)} {unit}s"
    return f"about {math.ceil(seconds)} seconds"
