"""Jobs for the tests that disturb the writing of checkpoints: each can be compared with one that nothing happens to."""
import calls
import jobs
from jobs import Jobs, job


class Bench:
    """One kind of job.

    ranks      (trainers, owners); no owners: embedded
    writing    a key of jobs.WRITING
    every, end of the checkpoints, of the job: steps
    arguments  of the trainers
    """

    def __init__(self, checks, directory, ranks, writing, every, end, *arguments):
        directory.mkdir()
        self.checks, self.directory, self.ranks, self.writing = checks, directory, ranks, writing
        self.every, self.end, self.arguments = every, end, arguments
        self.mode = "service" if ranks[1] else "embedded"
        self.name = f"{self.mode}, {writing}"
        self.library = calls.preloaded(directory)
        self.jobs = Jobs(directory, None)
        self.jobs.trainer = self.jobs.c_trainer()
        result = job.run(*self.programs("undisturbed", keep=0))
        checks.that(result.returncode == 0, f"{self.name}: a job that nothing happens to: {result}")

    @property
    def owners(self):
        return self.ranks[1] or self.ranks[0]

    def programs(self, name, *arguments, directory=None, keep=1, end=None, before=None):
        """The programs of a job with a configuration of this name, and a directory of checkpoints (of this name)."""
        config = self.jobs.config(name, self.mode, directory or self.directory / name, every=self.every, keep=keep,
                                  policy=jobs.WRITING[self.writing])
        return self.jobs.programs(config, *self.ranks, *self.arguments, f"steps={end or self.end}", *arguments,
                                  before=before)

    def undisturbed(self, step):
        return jobs.checkpoint(self.directory / "undisturbed", step)

    def watcher(self, name, owner, *disturbances, directory=None):
        """owner -> words that watch, and disturb, its calls on the checkpoints of a directory (of this name)."""
        return {owner: calls.watched(self.library, self.log(name, owner), directory or self.directory / name, disturbances)}

    def log(self, name, owner):
        return self.directory / f"{name}-{owner}.calls"

    def calls(self, name, owner):
        """What a watcher has seen."""
        return calls.calls(self.log(name, owner), self.every)

    def calls_undisturbed(self):
        """The calls of every owner in a job that nothing happens to."""
        watchers = {}
        for owner in range(self.owners):
            watchers.update(self.watcher("watched", owner))
        result = job.run(*self.programs("watched", before=watchers))
        self.checks.that(result.returncode == 0, f"{self.name}: a watched job: {result}")
        return [self.calls("watched", owner) for owner in range(self.owners)]

    def is_at(self, directory, step, what):
        """A restart would take the checkpoint of a step (0: there is none), which is right to the bit."""
        found = jobs.newest(directory)
        if self.checks.that(found == step, f"{what}: a restart takes step {found}, not {step}") and step:
            try:
                different = jobs.differences(jobs.checkpoint(directory, step), self.undisturbed(step))
            except OSError as error:  # h5py's
                different = error
            self.checks.that(not different, f"{what}: the checkpoint has other bits: {different}")

    def goes_on(self, name, step, what, directory=None, keep=1, end=None):
        """What a restart takes is whole and of this step (0: there is nothing), and leads to the same bits."""
        directory, end = directory or self.directory / name, end or self.end
        verified = job.finish([job.COMMAND, "verify", directory])
        self.checks.that(verified.returncode == (0 if step else 3), f"{what}: verify: {verified}")
        resume = ["resume="] if step else []
        result = job.run(*self.programs(name, *resume, directory=directory, keep=keep, end=end))
        first = result.stdout.split("\n")[0]
        self.checks.that(result.returncode == 0 and (first == f"step {step}" or step == end),
                         f"{what}: the restart from step {step}: {result}")
        left = sorted(path.name for path in directory.glob("*.partial"))
        self.checks.that(not left, f"{what}: after the restart there is {left}")
        self.checks.that((directory / "latest").is_symlink(), f"{what}: after the restart there is no `latest`")
        self.is_at(directory, end, f"{what}, after the restart")

    def one_message(self, result, what, *texts):
        """The job ended with the status of I/O, and said why in one message."""
        lines = [line for line in result.stderr.splitlines() if "equishard: error: " in line]
        self.checks.that(result.returncode == 3 and len(lines) == 1 and all(text in lines[0] for text in texts),
                         f"{what}: not status 3 and one message with {texts}: {result}")
