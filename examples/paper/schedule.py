"""Runs what is not recorded yet, in one process or several, with a bar over all of it."""

import contextlib
import dataclasses
import functools
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import time

from examples import command_line
from examples.paper import sizes

# Epochs from which a run is one.
LONG = 50


def run_all(pending, records, jobs):
    """Trains every run and records it.

    Args:
        pending: List of `Settings`.
        records: `Records`, open for writing.
        jobs: Int, number of processes. This process alone writes.
    """
    queue = sorted(pending, key=_order)
    runner = _in_this_process if jobs == 1 or len(queue) == 1 else _in_processes
    with _Progress(queue) as progress:
        for settings, result in runner(queue, min(jobs, len(queue)), progress.epoch_done):
            records.append({"settings": settings.to_dict(), **result})
            progress.run_done(settings, len(result["epochs"]["loss"]))


def _order(settings):
    """Runs of one program follow each other, so that it is compiled once.

    Long ones go seed by seed: a study that is stopped has whole seeds then, and compiling is little
    beside them.
    """
    first = settings.seed if settings.all_epochs >= LONG else 0
    return first, repr(settings.program), settings.seed, settings.learning_rate


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


def _in_this_process(queue, jobs, epoch_done):
    command_line.import_tensorflow()
    from examples.paper import training

    for settings in queue:
        yield settings, training.run(settings, functools.partial(epoch_done, settings))


def _in_processes(queue, jobs, epoch_done):
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    workers = {}
    queue = list(queue)
    try:
        for _ in range(jobs):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, threads), daemon=True)
            process.start()
            theirs.close()
            workers[ours] = [process, _hand_out(ours, queue, None, workers)]
        while any(settings is not None for _, settings in workers.values()):
            busy = [pipe for pipe, (_, settings) in workers.items() if settings is not None]
            for pipe in multiprocessing.connection.wait(busy):
                settings = workers[pipe][1]
                try:
                    result = pipe.recv()
                except EOFError:
                    raise RuntimeError(
                        "a process of the study ended by itself, perhaps for want of memory; what "
                        "is recorded is kept, run the command again to go on"
                    ) from None
                if result is None:
                    epoch_done(settings)
                    continue
                if isinstance(result, str):
                    raise RuntimeError(result)
                yield settings, result
                workers[pipe][1] = _hand_out(pipe, queue, settings, workers)
    finally:
        for process, _ in workers.values():
            process.terminate()


def _hand_out(pipe, queue, last, workers):
    """Sends a worker its next run: of the program that it has compiled, or of one nobody has."""
    if not queue:
        return None
    others = {s.program for other, (_, s) in workers.items() if s is not None and other is not pipe}

    def preference(settings):
        if last is not None and settings.program == last.program:
            return 0
        return 2 if settings.program in others else 1

    settings = min(queue, key=preference)
    queue.remove(settings)
    pipe.send(settings)
    return settings


def _work(pipe, threads):
    """Trains what comes through a pipe, until it closes."""
    # Ctrl-C reaches all processes; the one that hands out the work ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
    command_line.import_tensorflow()
    from examples.paper import training

    # The other end is gone when the study was killed.
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            settings = pipe.recv()
            try:
                result = training.run(settings, lambda: pipe.send(None))
            except BrokenPipeError:
                return
            except Exception as error:
                result = f"{type(error).__name__}: {error}"
            pipe.send(result)


class _Progress:
    """A bar over the work of all runs, by what each costs, with an estimate of the time left."""

    def __init__(self, queue):
        self.runs = len(queue)
        self.total = sum(sizes.multiplications(s) * s.all_epochs for s in queue)
        self.finished = 0

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
        self._advance(sizes.multiplications(settings))

    def run_done(self, settings, epochs):
        # A run that diverged leaves epochs out.
        self._advance(sizes.multiplications(settings) * (settings.all_epochs - epochs))
        self.finished += 1
        self.bar.set_description_str(f"{self.finished}/{self.runs} runs")

    def _advance(self, work):
        # Rounding must not carry the bar beyond its end.
        self.bar.update(min(work / self.total, max(0.0, self.bar.total - self.bar.n)))


def duration(seconds):
    """A time for people: `"about 3 hours"`."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 1.5 * size:
            return f"about {math.ceil(seconds / size)} {unit}s"
    return f"about {math.ceil(seconds)} seconds"
