"""The process that stands between a container and the world, from before its first mount until after its last byte.

    caller ──fork── supervisor ──spawn── engine run --detach
                        └── init of the container (a child: the supervisor is a subreaper)

The supervisor has a session of its own, so a terminal's signals and hang-up never reach it; the caller passes signals
on over the control socket. If the caller is killed, the container goes on and its exit is recorded all the same. The
supervisor's mount namespace holds the overlay: if everything is killed, nothing stays mounted. If it is killed itself,
the container goes on, and another takes it over (`adopt`). So it does where something fails in the supervisor while the
container runs: no want of ours ends a container.

One event loop serves signals, the caller and others (`reception`), the container's streams (`stdio`) and what is due at
a time (`duties`).
"""

from __future__ import annotations

import gc
import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import NoReturn

from runtime import engine
from runtime.cgroups.processes import Ended
from runtime.inheriting import inherited
from runtime.pidfds import exit_status
from runtime.state import Exited, Process, Run, boot_id, save_run
from runtime.supervision import restarts
from runtime.supervision.duties import Duties
from runtime.supervision.ending import despite, leave_nothing, next_start
from runtime.supervision.job import Job
from runtime.supervision.joined import Joined
from runtime.supervision.rebuilding import error_fields
from runtime.supervision.reception import Reception
from runtime.supervision.settingup import Begun, Streams, result, set_up, set_up_aside
from runtime.supervision.sleeping import Channel, Sleeper, Status, go_to_sleep, log_of
from runtime.supervision.stdio import Lent, Stdio, find_pipes, take_streams
from runtime.system import mounts
from runtime.system.aside import aside
from runtime.system.descriptors import close_all_but
from runtime.system.signals import FORWARDED, SignalPipe
from vcs.errors import EngineError, TreeringError

_PATIENCE = 3
"""The so-manieth SIGINT or SIGTERM kills: a first process without a handler ignores them (pid_namespaces(7))."""
_TOLD_SECONDS = 5.0
"""How long the monitor may take to say how a container has ended."""
_LAST_WORDS = 5.0
"""Seconds that those have who are attached to read the rest."""


def supervise(job: Job, channel: Channel | None = None, sleeper: Sleeper | None = None) -> NoReturn:
    """The whole life of a supervisor, in a freshly forked process. Never returns, never raises.

    `channel` leads to the monitor, if that has forked it; `sleeper` is what a supervisor before it has left there.
    """
    code = engine.FAILED
    try:
        gc.disable()
        code = _Supervisor(job, channel, sleeper).run()
    except BaseException as error:
        job.fail(error)
    finally:
        os._exit(code)


class _Supervisor:
    def __init__(self, job: Job, channel: Channel | None, sleeper: Sleeper | None) -> None:
        self._job = job
        self._channel = channel
        self._sleeper = sleeper
        self._paths = job.paths
        self._reception = Reception(job.control, self._deliver)
        self._impatience = 0
        self._waiting_signals: list[int] = []
        self._init_fd: int | None = None
        self._stdio: Stdio | None = None
        self._lost: OSError | None = None
        self._failure: TreeringError | None = None
        self._ended: Ended | None = None
        self._network = Joined(job.paths, job.spec)
        self._duties = Duties(job.orders) if job.orders else None
        me = Process.of(os.getpid())
        assert me is not None
        self._run = Run(job.run, job.spec.id, boot_id(), str(job.engine.path), me)
        if job.adopted:
            self._run = replace(job.adopted, supervisor=me)
        if sleeper:
            self._run = replace(sleeper.run, supervisor=me)

    def run(self) -> int:
        """Set up, wait, clean up, and all of it again while the restart policy says so; returns the last exit code."""
        with SignalPipe((*FORWARDED, signal.SIGCHLD)) as self._signals:
            lent = self._isolate()
            while True:
                end = self._live(lent)
                again = next_start(self._job, self._run, end)
                self._finish(end, again)
                if again is None or not self._sleep_until(again):
                    break
                self._prepare_again()
            self._depart(end)
        return engine.FAILED if end.code is None else end.code

    def _live(self, lent: Lent) -> Exited:
        """One run, from the first mount to the end of init. Raises if something fails, and the container goes on."""
        self._failure = None
        code: int | None = None
        try:
            self._claim()
            if self._sleeper:
                code = self._awaken(self._sleeper)
            else:
                code = self._adopt() if self._job.adopted else self._contain(lent.copy())
        except Exception as caught:
            if self._run.init is not None and self._run.init.alive():
                raise
            said = f"the container could not be set up: {type(caught).__name__}: {caught}"
            self._failure = caught if isinstance(caught, TreeringError) else EngineError(said)
            code = int(self._failure.facts.get("exit_code", engine.FAILED))
        return Exited(code, str(self._failure) if self._failure else None, time.time())

    def _claim(self) -> None:
        """Note whose the run is. One that goes on already is ours by the lock that we hold, whatever the disk says."""
        if self._run.init is None:
            save_run(self._paths.directory, self._run)
            return
        with despite(self._job):
            save_run(self._paths.directory, self._run)

    def _isolate(self) -> Lent:
        job = self._job
        os.setsid()
        os.chdir("/")
        os.umask(0o022)
        kept = {0, 1, 2, *self._signals.fds, *job.keep}
        kept |= {job.control.fileno()} if job.control else set()
        kept |= {self._channel.fileno()} if self._channel else set()
        if self._sleeper:
            kept |= self._sleeper.fds | ({self._sleeper.knocking.fileno()} if self._sleeper.knocking else set())
        close_all_but(kept if job.output is None else {*kept, job.output})
        lent = take_streams(
            stdin=job.spec.interactive and not job.spec.tty and not job.detach,
            output=not job.detach and not job.spec.tty,
            instead=job.output,
        )
        mounts.become_subreaper()
        mounts.set_process_name(b"treering-run")
        if self._duties:
            self._reception.open(self._paths.directory)
        return lent

    # -- one run

    def _contain(self, lent: Lent) -> int:
        job = self._job
        stdio = Stdio(lent, log_of(self._job), detached=job.detach, interactive=job.spec.interactive)
        self._stdio = self._reception.stdio = stdio
        streams = (None, None, None) if job.spec.tty else stdio.engine_streams()
        may_sleep = self._may_sleep()
        begun = self._begin_aside(streams) if job.detach and not may_sleep else self._begin_here(streams)
        if not job.spec.tty:
            stdio.begin()
        init = inherited(begun.init)
        self._init_fd = os.pidfd_open(init)
        run = replace(self._run, init=Process.of(init), started=time.time(), pipes=stdio.pipes)
        save_run(self._paths.directory, run)
        self._run = run
        self._paths.pid_file.unlink(missing_ok=True)  # it was for whoever is killed before this
        self._reception.init = init
        self._reception.tell_caller({"started": init})
        self._reap()
        self._deliver(self._waiting_signals)
        self._waiting_signals = []
        if job.detach:
            self._reception.hang_up()
        if may_sleep:
            self._sleep(stdio)
        if self._duties:
            self._duties.begin(self._run)
        self._wait_for(self._init_fd)
        with Ended() as self._ended:
            return engine.collect(init)

    def _begin_here(self, streams: Streams) -> Begun:
        """Set the container up in this process. The caller, who waits for its end, has the terminal at once."""
        return set_up(self._job, streams, self._network, self._hand_over)

    def _begin_aside(self, streams: Streams) -> Begun:
        """Have it set up by a child, and serve everybody meanwhile."""
        channel = set_up_aside(self._job, streams, self._network)
        self._wait_for(channel.fileno())
        begun = result(channel)
        if begun.master is not None:
            self._hand_over(begun.master)
        self._network.adopt()
        return begun

    def _hand_over(self, master: int) -> None:
        if self._stdio:
            self._reception.give_terminal(self._reception.caller, self._stdio.begin_terminal(master))

    def _adopt(self) -> int | None:
        """Wait for the end of a container that another supervisor began; its exit code as far as the kernel tells."""
        init = self._run.init
        assert init is not None
        self._stdio = Stdio(Lent(), log_of(self._job), detached=True, interactive=False)
        self._network.adopt()
        self._reception.stdio, self._reception.init = self._stdio, init.pid
        with suppress(ProcessLookupError):
            self._init_fd = os.pidfd_open(init.pid)
            self._stdio.take_over(find_pipes(self._run.pipes, [init.pid]))
        if self._init_fd is None or Process.of(init.pid) != init:
            return None
        if self._duties:
            self._duties.begin(self._run)
        if self._may_sleep():
            self._sleep(self._stdio)
        self._wait_for(self._init_fd)
        return self._told(self._init_fd)

    def _awaken(self, sleeper: Sleeper) -> int | None:
        """Go on with a container that was in the monitor's care, because it has ended, or somebody wants to attach."""
        init = self._run.init
        assert init is not None
        self._stdio = sleeper.stdio
        self._reception.stdio, self._reception.init = self._stdio, init.pid
        self._sleeper = None
        if sleeper.status is not None:
            return self._ended_as(sleeper.status)
        self._init_fd = sleeper.init
        if sleeper.knocking:
            self._reception.admit(sleeper.knocking)
        if self._duties:
            self._duties.begin(self._run)
        self._wait_for(self._init_fd)
        return self._told(self._init_fd)

    # -- the monitor

    def _may_sleep(self) -> bool:
        """Whether the container will need nothing, once it runs, that the monitor cannot do."""
        duties = self._duties
        return bool(self._channel and duties and duties.are_few and self._network.is_plain)

    def _sleep(self, stdio: Stdio) -> None:
        """Leave the container to the monitor, and end, unless somebody is there already or the monitor has gone."""
        if self._channel and self._init_fd is not None and stdio.is_quiet and self._reception.is_empty:
            self._reception.close()
            if go_to_sleep(self._channel, self._job, self._run, self._init_fd, stdio):
                os._exit(0)
            self._claim()  # the monitor may have been killed just after it had noted that it was its own
            self._reception.open(self._paths.directory)

    def _told(self, init: int) -> int | None:
        """The exit code of a container that is not our child: the monitor's, or nobody's."""
        for patience in (_TOLD_SECONDS / 10, _TOLD_SECONDS) if self._channel else ():
            message = self._channel.receive(patience) if self._channel else None
            if message and "status" in message.fields:
                return self._ended_as(message.fields["status"])
            if (code := exit_status(init)) is not None:
                return code
        return exit_status(init)

    def _ended_as(self, status: Status) -> int:
        self._ended = Ended.of(status.user_seconds, status.system_seconds, status.blocks_in, status.blocks_out)
        return engine.exit_code(status.status)

    # -- the loop

    def _wait_for(self, process: int) -> None:
        """Serve everybody until a process (a pidfd) has ended."""
        while True:
            ready = self._poll(process)
            self._serve(ready)
            if process in ready:
                return

    def _poll(self, process: int | None, until: float | None = None) -> dict[int, int]:
        wanted = dict(self._stdio.interests()) if self._stdio else {}
        others = [self._signals.fd, *self._reception.fds, *([] if process is None else [process])]
        poll = select.poll()
        for fd, events in (wanted | dict.fromkeys(others, select.POLLIN)).items():
            poll.register(fd, events)
        waits = [self._until_recorded(), self._duties.until_due() if self._duties else None]
        waits += [] if until is None else [max(0.0, until - time.time())]
        shortest = min((wait for wait in waits if wait is not None), default=None)
        return dict(poll.poll(None if shortest is None else shortest * 1000 + 1))

    def _serve(self, ready: dict[int, int]) -> None:
        if self._signals.fd in ready:
            self._deliver(self._signals.read())
        self._reception.serve(ready)
        if self._stdio:
            self._stdio.ready(ready)
        if self._duties:
            self._duties.do_what_is_due()

    def _until_recorded(self) -> float | None:
        """Seconds until the recording of the start is to be finished, which is done if it is due."""
        recording = self._job.recording
        if recording is None:
            return None
        if recording.remaining == 0:
            if self._job.detach:  # what was read is much: not in a process that is to stay small
                self._job = replace(self._job, recording=None)
                with despite(self._job):
                    aside(recording.finish, recording.fds)
                return None
            recording.finish()
        return recording.remaining

    def _deliver(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number == signal.SIGCHLD:
                self._reap()
                continue
            if self._init_fd is None:
                self._waiting_signals.append(number)
                continue
            self._impatience += number in (signal.SIGINT, signal.SIGTERM)
            with suppress(ProcessLookupError, ValueError):
                signal.pidfd_send_signal(self._init_fd, signal.SIGKILL if self._impatience >= _PATIENCE else number)

    def _reap(self) -> None:
        """Wait for what the engine left behind; as a subreaper we inherit it."""
        init = self._run.init
        with suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if init is None or ended.si_pid == init.pid:
                    return
                pid, status = os.waitpid(ended.si_pid, 0)
                if self._duties:
                    self._duties.reaped(pid, status)

    # -- the end

    def _finish(self, end: Exited, again: float | None) -> None:
        """Write the exit down, remove every trace, deliver the last output: in this order."""
        job, duties = self._job, self._duties
        with despite(job):
            end = duties.end(end, self._ended, self._network.namespace) if duties else end
        is_over = self._init_fd is not None and end.error is None
        durable = not (duties and duties.remove)
        leave_nothing(job, self._run, self._network, end, again, is_over=is_over, durable=durable)
        if self._init_fd is not None:
            os.close(self._init_fd)
            self._init_fd = None
        if self._failure:  # not sooner: who is told may look at the container, or remove it
            self._reception.tell_caller(error_fields(self._failure, engine.FAILED))
            self._reception.hang_up()
        with despite(job):
            if self._stdio:
                self._stdio.drain(None if self._reception.caller else _LAST_WORDS)
                self._lost = self._lost or self._stdio.failure
        self._stdio = self._reception.stdio = None
        with despite(job):
            if duties:
                duties.after(self._run, end)
        with despite(job):
            if job.recording:
                job.recording.finish()

    def _sleep_until(self, moment: float) -> bool:
        """Wait for the time of the next start; False if a user has stopped the container meanwhile."""
        while (left := moment - time.time()) > 0:
            if restarts.was_stopped(self._paths.directory):
                return False
            ready = self._poll(None, time.time() + left)
            if self._signals.fd in ready:
                self._signals.read()
            self._reception.serve(ready)
        return not restarts.was_stopped(self._paths.directory)

    def _prepare_again(self) -> None:
        me = self._run.supervisor
        count = self._run.restarts + 1
        self._run = Run(os.urandom(16).hex(), self._run.container, self._run.boot, self._run.engine, me, restarts=count)
        self._job = replace(self._job, adopted=None, recording=None, is_first=False)
        self._impatience, self._ended = 0, None

    def _depart(self, end: Exited) -> None:
        """Tell everybody, and do what is left to do if nobody is there who does it."""
        duties = self._duties
        remove = bool(duties and duties.remove)
        caller = self._reception.caller
        for fd in self._job.keep:  # who hears of the end may want the locks at once
            os.close(fd)
        if self._lost:
            self._reception.tell_caller({"lost": self._lost.errno})
        self._reception.tell_all({"exit": end.code})
        self._reception.close()
        # What could not be started at all is removed by who made it, and holds its lock meanwhile.
        if duties and remove and caller is None and not (end.error and not self._run.restarts):
            duties.take_away()
