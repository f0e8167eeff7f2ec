"""What a person can mend, as one line on stderr."""

import errno
import os
import re
import sys
from collections.abc import Callable

DISK = {  # what a disk refuses, and the remedy
    errno.ENOSPC: "make room and run it again",
    errno.EDQUOT: "make room in your quota and run it again",
    errno.EROFS: "set RUNS (and DATA_DIR) to a disk that can be written",
    errno.EACCES: "set RUNS (and DATA_DIR) to folders of your own, or change its permissions",
    errno.EPERM: "set RUNS (and DATA_DIR) to folders of your own, or change its permissions",
    errno.EIO: "look at the disk, or set RUNS to another",
    errno.ESTALE: "mount the disk anew and run it again",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENOTDIR: "a file stands where a folder should; move it",
    errno.EISDIR: "a folder stands where a file should; move it",
}


class UserError(Exception):
    """What a person can mend: one line that names the file, the key and the remedy."""


def cli(main: Callable[[], None]) -> None:
    """Run a script's main; a UserError, or what a disk refuses, becomes one line on stderr and exit code 2."""
    try:
        main()
    except UserError as error:
        sys.exit(print(f"error: {error}", file=sys.stderr) or 2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        message = of_the_disk(error)
        if message is None:
            raise
        sys.exit(print(f"error: {message}", file=sys.stderr) or 2)


def of_the_disk(error: Exception) -> str | None:
    """The line for an error of the disk; None for any other. Libraries in Rust say its number in their text."""
    told = re.search(r"\(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
    if number not in DISK:
        return None
    path = getattr(error, "filename", None)
    return f"{f'{path}: ' if path else ''}{os.strerror(number)}; {DISK[number]}"
