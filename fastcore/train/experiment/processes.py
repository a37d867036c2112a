"""Several processes for one experiment: started here, or by torchrun."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

import torch

_POLL_SECONDS = 0.5
INTERRUPTED = 130


def rank() -> int:
    """The number of this process among those that torchrun started; 0 without it."""
    return int(os.environ["RANK"]) if launched() else 0


def launched() -> bool:
    """Whether torchrun started this process."""
    return "LOCAL_RANK" in os.environ and "RANK" in os.environ


def session() -> str:
    """A name for this command, the same in all processes that one torchrun starts on a machine."""
    if launched():
        return f"{os.environ.get('TORCHELASTIC_RUN_ID')} {os.environ.get('MASTER_PORT')} {os.getppid()}"
    return uuid.uuid4().hex


def pick_device(device: str | torch.device | None, number: int = 0) -> torch.device:
    """The device of a process: what was asked for, or else a GPU, each process the next one, or else the CPU."""
    wanted = torch.device(device) if device is not None else None
    if wanted is None:
        wanted = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted.type != "cuda" or wanted.index is not None:
        return wanted
    if not torch.cuda.is_available():
        raise ValueError("device must be there, got 'cuda', and torch finds no GPU: see fastcore doctor")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", number)) % torch.cuda.device_count())


def run_in_processes(
    count: int,
    work: Callable[..., None],
    arguments: tuple[Any, ...],
    *,
    watch: Callable[[], None],
    died: Callable[[int, str], None],
) -> None:
    """Runs ``work(number, *arguments)`` in a number of processes, and waits for all.

    They share the threads of this process. They end with it, however it ends; an interruption is passed on, so
    that they save what they have, and raised here once all have ended.

    Args:
        count: how many.
        work: a function of a module, which is run in a fresh interpreter.
        arguments: what it is given beside its number.
        watch: called all the time while they run.
        died: called with the process id and the reason for each that did not end by itself.
    """
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // count)
    with _environment(OMP_NUM_THREADS=str(threads)):
        running: list[BaseProcess] = [
            context.Process(target=_begin, args=(threads, work, number, *arguments))
            for number in range(count)
        ]
        for each in running:
            each.start()
    try:
        while running:
            connection.wait([each.sentinel for each in running], timeout=_POLL_SECONDS)
            watch()
            for each in [each for each in running if each.exitcode is not None]:
                running.remove(each)
                if each.exitcode not in (0, 1, INTERRUPTED):
                    died(each.pid or 0, _reason(each.exitcode or 0))
                elif each.exitcode == INTERRUPTED:
                    raise KeyboardInterrupt
    except BaseException:
        _stop(running)
        raise


@contextlib.contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Lets SIGTERM, as cluster managers and torchrun send it, save the state as an interruption does."""
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _begin(threads: int, work: Callable[..., None], number: int, *arguments: Any) -> None:
    """The life of a process: interrupted by the one that started it alone, once, or by its end."""
    # The terminal interrupts all processes of a group; being passed on, the signal would come twice.
    with contextlib.suppress(OSError, AttributeError):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it may have been ignored
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    status = 0
    try:
        with terminated_like_interrupted():
            work(number, *arguments)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except Exception as error:
        reason = (
            (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        )
        print(f"fastcore: {' '.join(reason.split())}", file=sys.stderr, flush=True)
        status = 1
    sys.exit(status)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGINT)


def _stop(running: list[BaseProcess]) -> None:
    """Interrupts processes and waits for them; a second interruption kills them."""
    for each in running:
        with contextlib.suppress(OSError):
            os.kill(each.pid or 0, signal.SIGINT) if each.pid else None
    try:
        for each in running:
            each.join()
    except KeyboardInterrupt:
        for each in running:
            each.kill()


def _reason(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = str(-status)
    return f"was killed by {name}" + (", perhaps for lack of memory" if -status == signal.SIGKILL else "")


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
